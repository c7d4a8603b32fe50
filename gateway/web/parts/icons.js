// Drawn for this page, on a grid of 24, in the colour of the text.
import { html } from "../lib/html.js";

const PATHS = {
  chat: "M5 5.5h14a1.5 1.5 0 0 1 1.5 1.5v8.5a1.5 1.5 0 0 1-1.5 1.5h-7l-4.5 3.5V17H5a1.5 1.5 0 0 1-1.5-1.5V7A1.5 1.5 0 0 1 5 5.5z",
  pipeline: "M3.5 6.5h5v5h-5zM15.5 4h5v5h-5zM15.5 15h5v5h-5zM8.5 9h3.5M12 6.5h3.5M12 6.5v11h3.5",
  sessions: "M4 6h9M4 12h16M4 18h12M17 4v4M13 16v4",
  letters: "M4 6h16v12.5H4zM4 7l8 6 8-6",
  audit: "M6 3.5h9l4 4v13H6zM15 3.5v4h4M9 12.5h7M9 16.5h7",
  usage: "M4 20h16M6.5 20v-7M12 20V6M17.5 20v-10",
  plus: "M12 5v14M5 12h14",
  back: "M14.5 5.5L8 12l6.5 6.5",
  send: "M12 19V5.5M5.5 12L12 5.5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  tool: "M14.5 6.5a4 4 0 0 0 5 5L11 20a2.8 2.8 0 0 1-4-4l8.5-8.5M4 4l5 5",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z",
  screen: "M4 5h16v11H4zM9 20h6M12 16v4",
  leave: "M10 4.5H5v15h5M15 8l4 4-4 4M19 12H9.5",
};

export const Icon = ({ name }) => html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8"
  stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;

/** The wheel over its water. */
export const Wheel = () => html`<svg class="wheel" viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" aria-hidden="true" focusable="false">
  <circle cx="16" cy="13" r="8" /><path d="M16 2.5v21M6.9 7.750l18.2 10.5M25.1 7.750L6.9 18.250" />
  <path d="M3 28c2.6-2.2 5.2-2.2 7.8 0s5.2 2.2 7.8 0 5.2-2.2 7.8 0" opacity="0.75" /></svg>`;

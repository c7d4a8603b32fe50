// A record as it is, coloured, without markup made of text.
import { html } from "../lib/html.js";

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
// Above this, colours would cost more than they tell.
const COLOURED_CHARACTERS = 60_000;

function coloured(text) {
  if (text.length > COLOURED_CHARACTERS) return text;
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(TOKEN)) {
    parts.push(text.slice(at, match.index));
    const [whole, quoted, colon] = match;
    if (colon) parts.push(html`<span class="name">${quoted}</span>`, colon);
    else parts.push(html`<span class=${quoted ? "text" : "value"}>${whole}</span>`);
    at = match.index + whole.length;
  }
  parts.push(text.slice(at));
  return parts;
}

export function pretty(value) {
  if (typeof value !== "string") return JSON.stringify(value, null, 2);
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}

/** `value` is anything, or a text that may be JSON. */
export function Json({ value, label = "JSON" }) {
  const text = pretty(value);
  const isJson = typeof value !== "string" || text !== value || /^[[{]/.test(text);
  return html`<pre class="json" tabindex="0" role="group" aria-label=${label}>${isJson ? coloured(text) : text}</pre>`;
}

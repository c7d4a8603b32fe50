// The frame of a view that is a page: its title, what it is for, what can be done.
import { html } from "../lib/html.js";

export function Page({ title, lead, aside = null, children }) {
  return html`<div class="page">
    <header><div><h1>${title}</h1>${lead && html`<p>${lead}</p>`}</div>${aside && html`<div>${aside}</div>`}</header>
    ${children}
  </div>`;
}

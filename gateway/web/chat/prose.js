// A text as Markdown, made anew only when it changes.
import { html, useMemo } from "../lib/html.js";
import { Markdown } from "../lib/markdown.js";

export function Prose({ text }) {
  return useMemo(() => html`<div class="prose"><${Markdown} text=${text} /></div>`, [text]);
}

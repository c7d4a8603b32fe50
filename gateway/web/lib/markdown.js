// The part of Markdown that models write, made into elements: a text is never parsed as HTML.
import { html } from "./html.js";

const FENCE = /^\s*(```+|~~~+)\s*([\w+#.-]*)/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$/;

/** Blocks of a text, also of one that is not complete yet: an open fence is code to the end. */
export function blocks(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const found = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const fence = FENCE.exec(line);
    if (fence) {
      const end = lines.findIndex((other, index) => index > at && other.trim().startsWith(fence[1]) && other.trim().length === fence[1].length);
      const last = end < 0 ? lines.length : end;
      found.push({ kind: "code", language: fence[2], text: lines.slice(at + 1, last).join("\n") });
      at = last + 1;
    } else if (line.trim() === "") {
      at += 1;
    } else if (RULE.test(line)) {
      found.push({ kind: "rule" });
      at += 1;
    } else if (HEADING.test(line)) {
      const [, marks, title] = HEADING.exec(line);
      found.push({ kind: "heading", level: marks.length, text: title });
      at += 1;
    } else if (ITEM.test(line)) {
      at = readList(lines, at, found);
    } else if (line.trimStart().startsWith(">")) {
      const from = at;
      while (at < lines.length && lines[at].trimStart().startsWith(">")) at += 1;
      found.push({ kind: "quote", text: lines.slice(from, at).map((quoted) => quoted.replace(/^\s*>\s?/, "")).join("\n") });
    } else if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "")) {
      const from = at;
      while (at < lines.length && lines[at].includes("|")) at += 1;
      const rows = lines.slice(from, at).filter((_, index) => index !== 1).map(cells);
      found.push({ kind: "table", head: rows[0], rows: rows.slice(1) });
    } else {
      const from = at;
      do at += 1; while (at < lines.length && continuesParagraph(lines[at]));
      found.push({ kind: "paragraph", text: lines.slice(from, at).join("\n") });
    }
  }
  return found;
}

const continuesParagraph = (line) =>
  line.trim() !== "" && !FENCE.test(line) && !HEADING.test(line) && !ITEM.test(line) && !line.trimStart().startsWith(">");

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function readList(lines, start, found) {
  const [, indent, mark] = ITEM.exec(lines[start]);
  const ordered = /\d/.test(mark);
  const list = { kind: "list", ordered, start: ordered ? Number.parseInt(mark, 10) : 1, items: [] };
  let at = start;
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length > indent.length + 1 || item[1].length < indent.length || /\d/.test(item[2]) !== ordered) break;
    const inner = [item[3]];
    at += 1;
    while (at < lines.length) {
      const deeper = /^\s{2,}\S/.test(lines[at]) && lines[at].search(/\S/) > indent.length;
      if (!deeper) break;
      inner.push(lines[at].slice(indent.length + 2));
      at += 1;
    }
    list.items.push(inner.join("\n"));
    // An empty line between items does not end the list.
    if (lines[at]?.trim() === "" && ITEM.test(lines[at + 1] ?? "")) at += 1;
  }
  found.push(list);
  return at;
}

const INLINE = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(\S(?:.*?\S)?)\*\*|__(\S(?:.*?\S)?)__|\*(\S(?:[^*]*?\S)?)\*|(?<![\w])_(\S(?:[^_]*?\S)?)_(?![\w])|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>()"'\u201c\u201d]+[^\s<>()"'\u201c\u201d.,;:!?])/s;

function inline(text) {
  const parts = [];
  let rest = text;
  for (let match = INLINE.exec(rest); match; match = INLINE.exec(rest)) {
    if (match.index > 0) parts.push(rest.slice(0, match.index));
    const [whole, , code, strong, strong2, em, em2, label, target, bare] = match;
    if (code !== undefined) parts.push(html`<code>${code}</code>`);
    else if (strong ?? strong2) parts.push(html`<strong>${inline(strong ?? strong2)}</strong>`);
    else if (em ?? em2) parts.push(html`<em>${inline(em ?? em2)}</em>`);
    else parts.push(link(target ?? bare, label ?? bare));
    rest = rest.slice(match.index + whole.length);
  }
  if (rest) parts.push(rest);
  return parts;
}

const link = (target, label) => html`<a href=${target} target="_blank" rel="noopener noreferrer">${label}</a>`;

function block(item) {
  switch (item.kind) {
    case "code":
      return html`<pre tabindex="0"><code>${item.text}</code></pre>`;
    case "rule":
      return html`<hr />`;
    case "heading":
      // Headings of an answer are below those of the page.
      return html`<p class="md-heading" role="heading" aria-level=${Math.min(6, item.level + 2)}>${inline(item.text)}</p>`;
    case "quote":
      return html`<blockquote><${Markdown} text=${item.text} /></blockquote>`;
    case "list": {
      const items = item.items.map((inner) => html`<li><${Item} text=${inner} /></li>`);
      return item.ordered ? html`<ol start=${item.start}>${items}</ol>` : html`<ul>${items}</ul>`;
    }
    case "table":
      return html`<div class="md-table" tabindex="0" role="group" aria-label="Table"><table>
        <thead><tr>${item.head.map((cell) => html`<th scope="col">${inline(cell)}</th>`)}</tr></thead>
        <tbody>${item.rows.map((row) => html`<tr>${row.map((cell) => html`<td>${inline(cell)}</td>`)}</tr>`)}</tbody>
      </table></div>`;
    default:
      return html`<p>${inline(item.text)}</p>`;
  }
}

function Item({ text }) {
  const [first, ...rest] = blocks(text);
  if (first?.kind !== "paragraph") return html`<${Markdown} text=${text} />`;
  return html`${inline(first.text)}${rest.map(block)}`;
}

export const Markdown = ({ text }) => blocks(text).map(block);

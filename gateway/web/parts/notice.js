// What went wrong, and what to do, where it went wrong.
import { html } from "../lib/html.js";
import { capital } from "../lib/format.js";

export function Notice({ kind = "bad", title, children, action = null }) {
  return html`<div class="notice ${kind}" role=${kind === "bad" ? "alert" : "status"}>
    <div><strong>${title}</strong>${children}</div>${action}
  </div>`;
}

export function ProblemNotice({ problem, action = null }) {
  if (!problem) return null;
  const kind = problem.passes ? "warn" : "bad";
  return html`<${Notice} kind=${kind} title=${problem.title} action=${action}>
    ${problem.detail && html`<span>${capital(problem.detail)}</span>`}
    ${problem.errors.length > 0 && !problem.errors.every((error) => problem.detail.includes(error)) && html`<ul>${problem.errors.map((error) => html`<li>${error}</li>`)}</ul>`}
    ${problem.instance && html`<span class="small muted">Request ${problem.instance}</span>`}
  <//>`;
}

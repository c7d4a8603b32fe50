// What one agent replied to a broadcast, or that it has not yet.
import { html } from "../lib/html.js";
import { between, duration } from "../lib/format.js";
import { link } from "../lib/router.js";
import { Icon } from "../parts/icons.js";
import { Status } from "../parts/status.js";
import { Prose } from "./prose.js";

export function Reply({ step }) {
  const took = between(step.startedAt, step.endedAt);
  return html`<details class="tool">
    <summary><${Icon} name="chat" /><span class="name">${step.agent}</span><span class="brief">${step.text ?? ""}</span>
      ${step.status === "done" ? html`<span class="hidden-but-read">replied</span>` : html`<${Status} name=${step.status} />`}
      ${step.late && html`<span class="took">late</span>`}
      ${took !== null && html`<span class="took">${duration(took)}</span>`}</summary>
    <div class="inside">
      ${step.text !== null && html`<div><${Prose} text=${step.text} /></div>`}
      ${step.child !== null && html`<p><a href=${link("chat", step.child)}>Its conversation</a></p>`}
    </div>
  </details>`;
}

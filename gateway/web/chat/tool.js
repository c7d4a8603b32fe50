// A tool call inside an answer: what is asked, what came back, how long it took; where it waits, who lets it run.
import { html, useState } from "../lib/html.js";
import { between, duration } from "../lib/format.js";
import { can } from "../lib/api.js";
import { link } from "../lib/router.js";
import { Problem } from "../lib/problem.js";
import { Icon } from "../parts/icons.js";
import { Json } from "../parts/json.js";
import { ProblemNotice } from "../parts/notice.js";
import { Status } from "../parts/status.js";

const brief = (input) => Object.values(input ?? {}).map((value) => (typeof value === "string" ? value : JSON.stringify(value))).join(" · ");

export function Tool({ step, onDecide }) {
  if (step.status === "approval") return html`<${Approval} key=${step.approvedBy.length} step=${step} onDecide=${onDecide} />`;
  const took = between(step.startedAt, step.endedAt);
  return html`<details class="tool">
    <summary><${Icon} name="tool" /><span class="name">${step.tool}</span><span class="brief">${brief(step.input)}</span>
      ${step.status === "running" || step.status === "error" || step.status === "stopped" ? html`<${Status} name=${step.status} />` : html`<span class="hidden-but-read">done</span>`}
      ${took !== null && html`<span class="took">${duration(took)}</span>`}</summary>
    <div class="inside">
      <div><h3>Input</h3><${Json} value=${step.input ?? {}} label="Input" /></div>
      ${step.child !== null && html`<p><a href=${link("sessions", step.child)}>${step.child.endsWith(":@") ? "What the agents replied" : "What the asked agent did"}</a></p>`}
      ${step.result !== null && html`<div><h3>${step.status === "error" ? "Error, as the model is told it" : "Result"}</h3><${Json} value=${step.result} label="Result" /></div>`}
    </div>
  </details>`;
}

function whose({ needed, approvers, approvedBy }) {
  const of = approvers.length > 0 ? ` of ${approvers.join(", ")}` : "";
  const so = approvedBy.length > 0 ? ` ${approvedBy.map((by) => by ?? "somebody").join(", ")} approved already.` : "";
  return needed > 1 || of || so ? `${needed} more ${needed === 1 ? "decision" : "decisions"}${of}.${so}` : "your decision.";
}

function Approval({ step, onDecide }) {
  const [decided, setDecided] = useState(null);
  const [problem, setProblem] = useState(null);
  const decide = async (decision) => {
    setDecided(decision);
    setProblem(null);
    try {
      await onDecide(step, decision);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
      setDecided(null);
    }
  };
  return html`<section class="tool approval" aria-label=${`Approval of ${step.tool}`}>
    <div class="head"><${Icon} name="tool" /><span class="name">${step.tool}</span></div>
    <div class="inside">
      <p>The agent wants to run this tool. It waits for ${whose(step)}</p>
      <${Json} value=${step.input ?? {}} label="Input" />
      <${ProblemNotice} problem=${problem} />
      ${can("sessions:write") && html`<div class="actions">
        <button class="button primary" type="button" disabled=${decided !== null} onClick=${() => decide("approve")}>${decided === "approve" ? "Approving…" : "Approve"}</button>
        <button class="button" type="button" disabled=${decided !== null} onClick=${() => decide("deny")}>${decided === "deny" ? "Denying…" : "Deny"}</button>
      </div>`}
    </div>
  </section>`;
}

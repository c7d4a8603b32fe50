// A message and what became of it.
import { html, useState } from "../lib/html.js";
import { between, capital, cost, count, duration, moment, sentence, tokens } from "../lib/format.js";
import { link } from "../lib/router.js";
import { GATHERER, isOpen, stepsOf } from "../lib/conversation.js";
import { Notice, ProblemNotice } from "../parts/notice.js";
import { Status } from "../parts/status.js";
import { Prose } from "./prose.js";
import { Reply } from "./reply.js";
import { cancel, decide, send, sendAgain } from "./store.js";
import { Tool } from "./tool.js";

export function Turn({ store, message, onEdit }) {
  const steps = stepsOf(store.conversation, message);
  const last = steps.at(-1);
  const writes = message.status === "running" && last?.kind === "text";
  const thinks = message.status === "running" && (!last || (last.kind === "tool" && last.status !== "running") || (last.kind === "text" && last.text === ""));
  return html`<li class="turn" data-message=${message.id} data-status=${message.status}>
    <div class="said"><span class="hidden-but-read">You said: </span>${message.text ?? "…"}</div>
    ${message.status === "unsent" && html`<${ProblemNotice} problem=${message.problem}
      action=${html`<button class="button small" type="button" onClick=${() => sendAgain(store, message)}>Send again</button>`} />`}
    ${(message.status === "sending" || message.status === "queued") && html`<${Waiting} store=${store} message=${message} />`}
    ${message.turn !== null && html`<div class="answer">
      <div class="answer-head"><strong>${message.agent === GATHERER ? "Replies of agents" : sentence(message.agent)}</strong>
        ${["waiting", "failed", "cancelled"].includes(message.status) && html`<${Status} name=${message.status} />`}</div>
      ${steps.map((step) => step.kind === "tool"
        ? html`<${Tool} key=${step.number} step=${step} onDecide=${(...call) => decide(store, ...call)} />`
        : step.kind === "reply" ? html`<${Reply} key=${step.number} step=${step} />`
        : step.text && html`<div key=${step.number} class=${writes && step === last ? "writing" : ""} data-text><${Prose} text=${step.text} /></div>`)}
      ${thinks && html`<div class="thinking" role="img" aria-label="The agent is thinking"><i></i><i></i><i></i></div>`}
      <${End} store=${store} message=${message} onEdit=${onEdit} />
    </div>`}
  </li>`;
}

function Waiting({ store, message }) {
  const behind = store.conversation.messages.some((other) => other !== message && ["running", "waiting"].includes(other.status));
  const words = message.status === "sending" ? "Sending…" : behind ? "Queued: it is answered after the running turn." : "Sent.";
  return html`<div class="turn-foot" role="status"><span>${words}</span>
    ${message.status === "queued" && behind && html`<button class="link-button" type="button" onClick=${() => cancel(store, message)}>Take it back</button>`}</div>`;
}

const WHY_OVER = {
  gathered: "As many replied as were asked for.",
  exhausted: "Too few answered, and there is nobody left to wait for.",
  deadline: "The time was over.",
  cancelled: "Somebody cancelled it.",
};

function End({ store, message, onEdit }) {
  const { end } = message;
  if (!end) return null;
  const facts = [
    end.usage && tokens(end.usage) > 0 && `${count(tokens(end.usage))} tokens`,
    end.cost_micros > 0 && cost(end.cost_micros),
    message.startedAt && duration(between(message.startedAt, end.at)),
    end.stop_reason && end.stop_reason !== "end_turn" && `stopped: ${end.stop_reason}`,
  ].filter(Boolean);
  return html`
    ${end.type === "turn_failed" && html`<${Failed} store=${store} message=${message} onEdit=${onEdit} />`}
    ${end.type === "broadcast_completed" && html`<p class="muted small">${WHY_OVER[end.reason]}${end.missing.length > 0 ? ` No reply from ${end.missing.join(", ")}.` : ""}</p>`}
    ${end.type === "turn_cancelled" && html`<p class="muted small">Stopped${end.by ? ` by ${end.by}` : ""}${end.reason ? `: ${end.reason}` : "."}</p>`}
    <div class="turn-foot">
      ${facts.map((fact) => html`<span>${fact}</span>`)}
      <a href=${link("sessions", store.id, { turn: message.turn })}>Timeline</a>
      <time datetime=${end.at}>${moment(end.at)}</time>
    </div>`;
}

function Failed({ store, message, onEdit }) {
  const [asked, setAsked] = useState(false);
  const { error } = message.end;
  const again = () => { setAsked(true); send(store, message.text, message.agent); };
  const action = error.retryable
    ? html`<button class="button small" type="button" disabled=${asked || message.text === null} onClick=${again}>Ask again</button>`
    : html`<button class="button small" type="button" disabled=${message.text === null} onClick=${() => onEdit(message.text)}>Edit the message</button>`;
  const advice = error.retryable ? "Asking the same again can succeed." : "Asking the same again would fail again.";
  return html`<${Notice} kind="bad" title=${`No answer: ${sentence(error.code).toLowerCase()}`} action=${action}><span>${capital(error.message)}</span><span class="muted">${advice}</span><//>`;
}

export const isOver = (message) => !isOpen(message);

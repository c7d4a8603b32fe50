// One conversation as it is shown: a fold over its messages, agent events and deltas. Nothing in here knows the page.
//
// Events of a session have a gap-free `seq`: one that was seen is dropped. Frames of a model call count from 0, and a call
// that is made again counts from 0 again, so a frame 0 begins a step's text anew, and any other frame counts only where it
// is the next one. What deltas leave out or get wrong, the end of the turn puts right: it has the whole answer.

export const newConversation = () => ({
  seq: 0,
  at: "",
  messages: [],
  turns: new Map(),
});

/** Stands for an agent where the replies to a broadcast are gathered. */
export const GATHERER = "@";
const ENDS = { turn_completed: "completed", turn_failed: "failed", turn_cancelled: "cancelled" };

export const isOpen = (message) => ["sending", "queued", "running", "waiting"].includes(message.status);
export const openMessage = (conversation) => conversation.messages.find((message) => ["running", "waiting"].includes(message.status));

/** A message that this page sends now, or that was read back: `{id, text, at, agent}`. The order of calls is kept. */
export function addMessage(conversation, { id, text, at = null, agent = null, status = "queued" }) {
  const known = conversation.messages.find((message) => message.id === id);
  if (known) {
    if (text !== null && known.text === null) known.text = text;
    known.at ??= at;
    return known;
  }
  const message = { id, text, at, agent, status, turn: null, end: null, problem: null, endedAt: null, startedAt: null };
  conversation.messages.push(message);
  return message;
}

/** What the gateway said about a message that this page sent. */
export function settleMessage(conversation, id, problem) {
  const message = conversation.messages.find((known) => known.id === id);
  if (message?.status !== "sending") return;
  message.status = problem ? "unsent" : "queued";
  message.problem = problem;
}

/** Takes an agent event or a delta; returns whether anything is new. */
export function take(conversation, record) {
  if (record.type === "text_delta" || record.type === "delta_reset") return takeDelta(conversation, record);
  if (record.seq === 1 && conversation.seq > 0 && record.at > conversation.at) forget(conversation);
  if (record.seq <= conversation.seq) return false;
  conversation.seq = record.seq;
  conversation.at = record.at;
  const message = addMessage(conversation, { id: record.message_id, text: null, at: record.at });
  message.turn = record.turn_id;
  message.agent = record.type.startsWith("broadcast_") ? GATHERER : record.agent;
  const turn = turnOf(conversation, record.turn_id);
  switch (record.type) {
    case "turn_started":
      message.status = "running";
      message.startedAt = record.at;
      break;
    case "approval_requested":
      message.status = "waiting";
      Object.assign(toolOf(turn, record), { status: "approval", needed: record.approvals, approvers: record.approvers, approvedBy: [] });
      break;
    case "approval_answered": {
      const step = toolOf(turn, record);
      step.needed = record.remaining;
      if (record.decision === "approve") step.approvedBy = [...step.approvedBy, record.by];
      if (!record.remaining) {
        // A call goes on with events of its own; leave to exceed a budget has no other.
        message.status = "running";
        step.status = record.decision === "approve" ? "done" : "error";
      }
      break;
    }
    case "tool_called":
      message.status = "running";
      Object.assign(toolOf(turn, record), { status: "running", startedAt: record.at, child: record.child_session_id ?? null });
      break;
    case "tool_returned":
      message.status = "running";
      Object.assign(toolOf(turn, record), {
        status: record.is_error ? "error" : "done",
        result: record.content,
        endedAt: record.at,
      });
      break;
    case "broadcast_delivered":
      message.startedAt ??= record.at;
      if (!record.late) message.status = "running";
      Object.assign(replyOf(turn, record), { startedAt: record.at, child: record.child_session_id, status: record.late ? "done" : "running" });
      break;
    case "broadcast_replied":
      Object.assign(replyOf(turn, record), {
        status: record.is_error ? "error" : "done",
        text: record.content,
        late: record.late,
        endedAt: record.at,
      });
      break;
    case "broadcast_completed":
      message.status = "completed";
      message.end = record;
      message.endedAt = record.at;
      break;
    default:
      if (record.type in ENDS) end(message, turn, record);
  }
  return true;
}

/** A session that was forgotten begins anew: it counts its events and its turns from 1 again. */
function forget(conversation) {
  conversation.seq = 0;
  conversation.turns.clear();
}

function end(message, turn, record) {
  message.status = ENDS[record.type];
  message.end = record;
  message.endedAt = record.at;
  turn.ended = true;
  for (const step of turn.steps.values()) {
    if (step.kind === "tool" && ["running", "approval"].includes(step.status)) step.status = "stopped";
  }
  if (record.type !== "turn_completed") return;
  const lastTool = Math.max(0, ...[...turn.steps].filter(([, step]) => step.kind === "tool").map(([number]) => number));
  for (const number of [...turn.steps.keys()]) if (number > lastTool) turn.steps.delete(number);
  turn.steps.set(lastTool + 1, { kind: "text", text: record.text });
}

function takeDelta(conversation, delta) {
  const turn = turnOf(conversation, delta.turn_id);
  if (turn.ended) return false;
  let step = turn.steps.get(delta.step);
  if (delta.seq === 0) {
    step = { kind: "text", attempt: delta.attempt, next: 0, text: "", voided: delta.attempt > 1 };
    turn.steps.set(delta.step, step);
  }
  if (step?.kind !== "text" || step.attempt !== delta.attempt || step.next !== delta.seq) return false;
  step.next += 1;
  step.text += delta.text ?? "";
  return true;
}

function turnOf(conversation, id) {
  let turn = conversation.turns.get(id);
  if (!turn) conversation.turns.set(id, (turn = { steps: new Map(), ended: false }));
  return turn;
}

/** What one agent replies to a broadcast: a step, in the order in which they got it. */
function replyOf(turn, { agent }) {
  const known = [...turn.steps.values()].find((step) => step.kind === "reply" && step.agent === agent);
  if (known) return known;
  const step = { kind: "reply", agent, child: null, status: "running", text: null, late: false, startedAt: null, endedAt: null };
  turn.steps.set(turn.steps.size + 1, step);
  return step;
}

/** The step of a call; `call_id` is `{turn_id}/{step}`. */
function toolOf(turn, { call_id: callId, tool, input }) {
  const number = Number(callId.slice(callId.lastIndexOf("/") + 1));
  let step = turn.steps.get(number);
  if (step?.kind !== "tool") {
    step = {
      kind: "tool", callId, tool, input: null, result: null, status: "running", startedAt: null, endedAt: null,
      child: null, needed: 1, approvers: [], approvedBy: [],
    };
    turn.steps.set(number, step);
  }
  if (input) step.input = input;
  return step;
}

/** A text that the model wrote before it called tools: deltas of it are gone when its turn has ended. */
export function addStepText(conversation, turnId, number, text) {
  const turn = turnOf(conversation, turnId);
  if (text && !turn.steps.has(number)) turn.steps.set(number, { kind: "text", text, next: -1 });
}

/** Whether the model may have said something before it called tools of an ended turn that is not shown. */
export function lacksText(conversation, message) {
  const turn = conversation.turns.get(message.turn);
  return Boolean(turn?.ended) && [...turn.steps].some(([number, { kind }]) => kind === "tool" && !turn.steps.has(number - 1));
}

/** The turn of a message, step by step. */
export function stepsOf(conversation, message) {
  const turn = message.turn === null ? null : conversation.turns.get(message.turn);
  if (!turn) return [];
  return [...turn.steps].sort(([a], [b]) => a - b).map(([number, step]) => ({ number, ...step }));
}

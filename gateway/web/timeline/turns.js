// A session's records, turn by turn, each with its place in the turn's time. Pure.

/** What becomes a turn, and where its record has the id of the message that the turn is about. */
const INTO_TURN = { message_accepted: "message_id", broadcast_accepted: "broadcast_id" };

/** The turn of a record: its own, or that of its call, `{turn_id}/{step}`. */
function turnIdOf(record) {
  if (record.turn_id) return record.turn_id;
  const call = record.body?.call_id;
  return call ? call.slice(0, call.lastIndexOf("/")) : null;
}

/**
 * Groups in the order of their first record: `{id, messageId, records, from, to}`. A message that was accepted belongs to
 * the turn that answers it; what belongs to no turn is a group without an id.
 */
export function groupByTurn(records) {
  const turnOfMessage = new Map();
  for (const record of records) {
    const id = turnIdOf(record);
    if (id && record.body?.message_id) turnOfMessage.set(record.body.message_id, id);
  }
  const groups = new Map();
  for (const record of records) {
    const id = turnIdOf(record) ?? turnOfMessage.get(record.body?.[INTO_TURN[record.type]]) ?? "";
    if (!groups.has(id)) groups.set(id, { id, records: [], messageId: null });
    const group = groups.get(id);
    group.records.push(record);
    group.messageId ??= record.body?.message_id ?? null;
  }
  for (const group of groups.values()) {
    const times = group.records.flatMap((record) => [Date.parse(record.at), Date.parse(record.at) - (record.duration_ms ?? 0)]);
    group.from = Math.min(...times);
    group.to = Math.max(...times);
  }
  return [...groups.values()];
}

/** Where a record's bar begins and how wide it is, in percent of its turn. */
export function barOf(record, { from, to }) {
  const span = Math.max(1, to - from);
  const end = Date.parse(record.at) - from;
  const took = record.duration_ms ?? 0;
  return { left: ((end - took) / span) * 100, width: (took / span) * 100 };
}

/** What a record says in a few words. */
export function briefOf({ type, body }) {
  if (!body) return "";
  const text = typeof body.content === "string" ? body.content : textOf(body.content);
  const agent = type.startsWith("broadcast_") && type !== "broadcast_completed" ? body.agent : null;
  const replies = body.replies ? `${body.replies.length} of ${body.replies.length + body.missing.length} replied` : null;
  const parts = [agent, replies, body.late && "late", body.tool, body.error?.code ?? body.failure?.code, body.model, body.decision, body.reason, body.text ?? text, toolsOf(body.content)];
  return parts.filter(Boolean).join(" · ").replace(/\s+/g, " ").slice(0, 180);
}

const textOf = (content) => (Array.isArray(content) ? content.filter(({ type }) => type === "text").map(({ text }) => text).join(" ") : "");

function toolsOf(content) {
  const names = Array.isArray(content) ? content.filter(({ type }) => type === "tool_use").map(({ name }) => name) : [];
  return names.length > 0 ? `asks for ${names.join(", ")}` : "";
}

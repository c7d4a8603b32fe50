// A conversation as the gateway has it: what agent events leave out.
import { request, sessionPath } from "../lib/api.js";

const PAGE = 200;

/**
 * All messages, oldest first, `{id, text, at}`; and what agents said before they called tools, `{turn, step, text}`, which
 * no event has; and as of when (ms): the newest may be missing. A message whose text is not stored has null.
 */
export async function readTranscript(id, signal) {
  const messages = [];
  const texts = [];
  let cursor = null;
  let asOf = 0;
  do {
    const page = await request(sessionPath(id, "/transcript"), { query: { limit: PAGE, cursor }, signal });
    for (const entry of page.items) {
      if (entry.type === "user_message") messages.push({ id: entry.message_id, text: textOf(entry), at: entry.at });
      else if (entry.type === "assistant_message" && !entry.is_answer) texts.push({ turn: entry.turn_id, step: entry.step, text: entry.text });
    }
    cursor = page.next_cursor;
    asOf = Date.parse(page.as_of);
  } while (cursor);
  return { messages, texts, asOf };
}

function textOf({ text, images }) {
  const count = images?.length ?? 0;
  if (count === 0) return text;
  return `${text ?? ""}\n[${count === 1 ? "an image" : `${count} images`}]`.trim();
}

// The messages of a session, as the gateway has them.
import { request, sessionPath } from "../lib/api.js";

const PAGE = 200;

/** All messages of a session, oldest first: `{id, text, at, agent}`. */
export async function readMessages(id, signal) {
  const messages = [];
  let cursor = null;
  do {
    const page = await request(sessionPath(id, "/transcript"), { query: { limit: PAGE, cursor }, signal });
    for (const item of page.items) messages.push(item);
    cursor = page.next_cursor;
  } while (cursor);
  return messages;
}

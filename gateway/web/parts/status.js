// How something stands, in a word and a colour that says the same.
import { html } from "../lib/html.js";
import { words } from "../lib/format.js";

const KINDS = {
  running: "busy", sending: "busy", queued: "busy",
  waiting: "warn", waiting_for_approval: "warn", approval: "warn", retryable: "warn",
  completed: "good", done: "good", success: "good", ok: "good", accepted: "good", approved: "good",
  failed: "bad", error: "bad", refused: "bad", denied: "bad", failure: "bad", unsent: "bad",
};
const NAMES = { waiting: "waits for approval", waiting_for_approval: "waits for approval", unsent: "not sent" };

export const Status = ({ name }) => name ? html`<span class="pill ${KINDS[name] ?? ""}">${NAMES[name] ?? words(name)}</span>` : null;

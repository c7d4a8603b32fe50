// One open conversation: what is known of it, its feed, and what was sent from here and is not over yet.
import { signal } from "../lib/html.js";
import { caller, randomId, request, sessionPath } from "../lib/api.js";
import { addMessage, addStepText, lacksText, newConversation, settleMessage, take } from "../lib/conversation.js";
import { follow } from "../lib/feed.js";
import { Problem } from "../lib/problem.js";
import { tab } from "../lib/storage.js";
import { readTranscript } from "./reading.js";

const SHOW_EACH_MS = 16;
const SEND_AGAIN_MS = [300, 600, 1_200, 2_400, 4_800, 4_800, 4_800];
const LOOK_AGAIN_MS = 700;
// What is stored of a session is behind its events by less, unless nothing is stored at all.
const STORED_WITHIN_MS = 5_000;

/** Opens a session; `close` ends all that goes on for it. `version` changes whenever something is to be shown anew. */
export function openStore(id) {
  const store = {
    id,
    conversation: newConversation(),
    version: signal(0),
    connection: signal({ name: "connecting", problem: null }),
    problem: signal(null),
    loaded: signal(false),
    closed: new AbortController(),
    timers: {},
    asOf: 0,
    feed: null,
  };
  store.close = () => {
    store.closed.abort();
    store.feed?.stop();
    Object.values(store.timers).forEach(clearTimeout);
  };
  start(store);
  return store;
}

async function start(store) {
  for (const sent of outbox(store.id)) {
    const known = addMessage(store.conversation, { ...sent, status: sent.accepted ? "queued" : "sending" });
    if (!sent.accepted) post(store, known);
  }
  await lookUp(store);
  if (store.closed.signal.aborted) return;
  store.feed = follow(store.id, "0-0", {
    entry: (record) => {
      if (!take(store.conversation, record)) return;
      if (/^(turn|broadcast)_/.test(record.type)) settle(store, record);
      show(store);
    },
    state: (connection) => { store.connection.value = connection; },
  });
}

/** What an event says about a message: its text may have to be looked up; once it is over, it need not be sent again. */
function settle(store, record) {
  const message = store.conversation.messages.find(({ id }) => id === record.message_id);
  if (message.text === null || mayGetText(store, message)) once(store, "look", LOOK_AGAIN_MS / 4, () => lookUp(store));
  if (record.type === "turn_started") accept(store.id, message.id);
  else forget(store.id, message.id);
}

/** What a model says before it calls tools is in deltas, which are gone with their turn, and is stored a little later. */
const mayGetText = (store, message) =>
  lacksText(store.conversation, message) && store.asOf < Date.parse(message.endedAt) + STORED_WITHIN_MS;

/** Reads the messages; those that the gateway does not have yet are asked for again. */
async function lookUp(store) {
  try {
    const { messages, texts, asOf } = await readTranscript(store.id, store.closed.signal);
    const conversation = store.conversation;
    store.asOf = asOf;
    for (const message of messages) addMessage(conversation, message);
    for (const { turn, step, text } of texts) addStepText(conversation, turn, step, text);
    const place = new Map(messages.map(({ id }, index) => [id, index]));
    conversation.messages.sort((a, b) => (place.get(a.id) ?? Infinity) - (place.get(b.id) ?? Infinity) || 0);
    store.problem.value = null;
  } catch (error) {
    if (store.closed.signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    store.problem.value = error.status === 404 ? null : error;
    if (error.passes) once(store, "look", 2_000, () => lookUp(store));
  }
  store.loaded.value = true;
  if (store.conversation.messages.some((message) => message.text === null || mayGetText(store, message))) once(store, "look", LOOK_AGAIN_MS, () => lookUp(store));
  show(store);
}

function once(store, name, milliseconds, action) {
  if (store.timers[name] || store.closed.signal.aborted) return;
  store.timers[name] = setTimeout(() => {
    store.timers[name] = null;
    action();
  }, milliseconds);
}

function show(store) {
  once(store, "show", SHOW_EACH_MS, () => { store.version.value += 1; });
}

/** Notes a message that is to be sent by whoever opens the session. Its id is made here: sent again, also after a reload,
 * it is still the same message, and is answered once. */
export function note(id, text, agent) {
  const message = { id: `m-${randomId()}`, text, at: new Date().toISOString(), agent: agent || null };
  remember(id, { ...message, accepted: false });
  return message;
}

/** Sends a message in an open session. */
export function send(store, text, agent) {
  const message = addMessage(store.conversation, { ...note(store.id, text, agent), status: "sending" });
  show(store);
  return post(store, message);
}

async function post(store, message) {
  message.status = "sending";
  message.problem = null;
  for (let attempt = 0; !store.closed.signal.aborted; attempt += 1) {
    try {
      await request(sessionPath(store.id, "/messages"), {
        method: "POST",
        headers: { "Idempotency-Key": message.id },
        body: { id: message.id, text: message.text, user_id: caller.value.me.name, ...(message.agent ? { agent: message.agent } : {}) },
      });
      accept(store.id, message.id);
      settleMessage(store.conversation, message.id, null);
      return show(store);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const wait = SEND_AGAIN_MS[attempt];
      if (!error.passes || wait === undefined) {
        settleMessage(store.conversation, message.id, error);
        forget(store.id, message.id);
        return show(store);
      }
      await new Promise((resolve) => setTimeout(resolve, Math.max(wait, (error.retryAfter ?? 0) * 1_000)));
    }
  }
}

/** Sends a message again that the gateway did not take: it is the same message. */
export function sendAgain(store, message) {
  remember(store.id, { id: message.id, text: message.text, at: message.at, agent: message.agent, accepted: false });
  post(store, message);
  show(store);
}

const by = () => caller.value.me.name;

export const cancel = (store, message) =>
  request(sessionPath(store.id, "/cancel"), { method: "POST", body: { message_id: message.id, by: by() } });

export const decide = (store, step, decision) =>
  request(sessionPath(store.id, "/approvals"), { method: "POST", body: { call_id: step.callId, decision, by: by() } });

// What was sent from this tab and is not over: sent again after a reload, if nobody said that it was accepted.
const outbox = (id) => JSON.parse(tab.get(`outbox.${id}`) ?? "[]");
const keep = (id, sent) => (sent.length > 0 ? tab.set(`outbox.${id}`, JSON.stringify(sent)) : tab.remove(`outbox.${id}`));
const remember = (id, message) => keep(id, [...outbox(id).filter((sent) => sent.id !== message.id), message]);
const forget = (id, messageId) => keep(id, outbox(id).filter((sent) => sent.id !== messageId));
const accept = (id, messageId) => keep(id, outbox(id).map((sent) => (sent.id === messageId ? { ...sent, accepted: true } : sent)));

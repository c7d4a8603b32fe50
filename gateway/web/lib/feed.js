// Follows one session's feed, and goes on after any break from where it was.
import { authorization, sessionPath, signOut } from "./api.js";
import { Problem, problemOf, unreachable } from "./problem.js";
import { EventStreamParser } from "./sse.js";

const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 5_000;
// The gateway sends a comment at least every 15 s: three missed ones are a dead connection.
const SILENCE_MS = 45_000;

/**
 * Calls `entry(record, id)` for each record behind `position` and `state({name, problem})` with connecting, live,
 * waiting or refused. Returns `{stop, position}`.
 */
export function follow(sessionId, position, { entry, state }) {
  const stopped = new AbortController();
  const feed = { position, stop: () => stopped.abort() };
  run(sessionId, feed, stopped.signal, entry, state);
  return feed;
}

async function run(sessionId, feed, stopped, entry, state) {
  let failures = 0;
  while (!stopped.aborted) {
    state({ name: failures === 0 ? "connecting" : "waiting", problem: null });
    let problem = null;
    try {
      await readOnce(sessionId, feed, stopped, (record, id) => {
        failures = 0;
        entry(record, id);
      }, () => state({ name: "live", problem: null }));
    } catch (error) {
      if (stopped.aborted) return;
      problem = error instanceof Problem ? error : unreachable();
    }
    if (stopped.aborted) return;
    if (problem?.status === 401) return signOut(problem);
    if (problem && !problem.passes) return state({ name: "refused", problem });
    failures += 1;
    state({ name: "waiting", problem });
    const asked = (problem?.retryAfter ?? 0) * 1_000;
    const own = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
    await pause(Math.max(asked, own), stopped);
  }
}

async function readOnce(sessionId, feed, stopped, entry, opened) {
  const connection = new AbortController();
  const close = () => connection.abort();
  stopped.addEventListener("abort", close);
  let watchdog = setTimeout(close, SILENCE_MS);
  try {
    const response = await fetch(sessionPath(sessionId, "/events"), {
      headers: { Accept: "text/event-stream", "Last-Event-ID": feed.position, ...authorization() },
      signal: connection.signal,
      cache: "no-store",
      credentials: "omit",
    });
    if (!response.ok) throw await problemOf(response);
    opened();
    const parser = new EventStreamParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(close, SILENCE_MS);
      for (const message of parser.push(value)) {
        const body = JSON.parse(message.data);
        if (message.event === "error") throw new Problem({ status: 503, ...body });
        if (message.id !== null) feed.position = message.id;
        entry(body, message.id);
      }
    }
  } finally {
    clearTimeout(watchdog);
    stopped.removeEventListener("abort", close);
    close();
  }
}

/** Waits; less when the network comes back or the page is looked at again. */
function pause(milliseconds, stopped) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      document.removeEventListener("visibilitychange", done);
      stopped.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    addEventListener("online", done);
    document.addEventListener("visibilitychange", done);
    stopped.addEventListener("abort", done);
  });
}

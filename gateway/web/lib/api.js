// Requests to the gateway. The key goes into a header, never into an address.
import { signal } from "./html.js";
import { Problem, problemOf, unreachable } from "./problem.js";
import { tab } from "./storage.js";

/** Who uses the page: `state` is starting, in or out; `me` the answer of /v1/me; `problem` why one is out. */
export const caller = signal({ state: "starting", me: null, problem: null });

export function authorization() {
  const key = tab.get("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** With a problem, whoever signs in again finds their drafts; without one, nothing is left of them. */
export function signOut(problem = null) {
  if (problem) tab.remove("key");
  else tab.clear();
  caller.value = { state: "out", me: null, problem };
}

/** Asks who one is; with `key`, keeps it where it is right. A wrong one is in `caller.problem`. */
export async function signIn(key = null) {
  const known = key ?? tab.get("key");
  if (key) tab.set("key", key);
  try {
    const me = await request("/v1/me");
    caller.value = { state: "in", me, problem: null };
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    // The first visit without a key is no mistake of anybody's.
    if (problem.status === 401) caller.value = { state: "out", me: null, problem: known ? problem : null };
    else caller.value = { ...caller.value, state: caller.value.state === "in" ? "in" : "starting", problem };
  }
}

export const can = (scope) => caller.value.me?.scopes?.includes(scope) ?? false;

export function address(path, query = {}) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parts.append(name, value);
  }
  const search = parts.toString();
  return search ? `${path}?${search}` : path;
}

/** The answer's JSON; throws `Problem`. */
export async function request(path, { method = "GET", query, body, headers = {}, signal: abort } = {}) {
  let response;
  try {
    response = await fetch(address(path, query), {
      method,
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...authorization(),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: abort,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (response.status === 401) signOut(problem);
    throw problem;
  }
  return response.status === 204 ? null : response.json();
}

export const sessionPath = (id, rest = "") => `/v1/sessions/${encodeURIComponent(id)}${rest}`;

/** An id that nobody else makes. `crypto.randomUUID` is missing on a page without TLS. */
export function randomId(bytes = 8) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

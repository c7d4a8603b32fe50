// The address behind `#`: `#/view/argument?name=value`. It names what is looked at, and never holds a secret.
import { signal } from "./html.js";

function read() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", argument = ""] = path.split("/");
  let decoded = "";
  try {
    decoded = decodeURIComponent(argument);
  } catch {
    // A hand-written address with a stray per cent sign names nothing.
  }
  return { view: view || "chat", argument: decoded, query: Object.fromEntries(new URLSearchParams(search)) };
}

export const route = signal(read());
addEventListener("hashchange", () => { route.value = read(); });

export function link(view, argument = "", query = {}) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();
  return `#/${view}${argument ? `/${encodeURIComponent(argument)}` : ""}${search ? `?${search}` : ""}`;
}

export function go(view, argument = "", query = {}, { replace = false } = {}) {
  const target = link(view, argument, query);
  if (replace) {
    history.replaceState(null, "", target);
    route.value = read();
  } else {
    location.hash = target;
  }
}

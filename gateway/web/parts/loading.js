// Reading from the gateway in a component: once, again and again, or page by page.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { request } from "../lib/api.js";
import { Problem } from "../lib/problem.js";

const asProblem = (error) => {
  if (error instanceof Problem) return error;
  throw error;
};

/** The answer of `path`, read again each `everyMs` while the page is looked at: `{data, problem, again}`. */
export function useAnswer(path, { query = {}, everyMs = 0 } = {}) {
  const [answer, setAnswer] = useState({ data: null, problem: null, for: null });
  const [round, setRound] = useState(0);
  const wanted = JSON.stringify([path, query]);
  useEffect(() => {
    if (!path) return undefined;
    const abort = new AbortController();
    let timer = null;
    const read = async () => {
      if (!document.hidden || !everyMs) {
        try {
          const data = await request(path, { query, signal: abort.signal });
          setAnswer({ data, problem: null, for: wanted });
        } catch (error) {
          if (abort.signal.aborted) return;
          const problem = asProblem(error);
          setAnswer((last) => ({ data: last.for === wanted ? last.data : null, problem, for: wanted }));
          if (!problem.passes) return;
          if (!everyMs) timer = setTimeout(read, 2_000);
        }
      }
      if (everyMs && !abort.signal.aborted) timer = setTimeout(read, everyMs);
    };
    read();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [wanted, everyMs, round]);
  const current = answer.for === wanted ? answer : { data: null, problem: null };
  return { data: current.data, problem: current.problem, again: () => setRound((last) => last + 1) };
}

/** Pages of a list: `{items, problem, busy, hasMore, more, again}`. */
export function usePages(path, query = {}) {
  const empty = { items: null, cursor: null, problem: null, busy: true };
  const [pages, setPages] = useState(empty);
  const [round, setRound] = useState(0);
  const current = useRef(null);
  const wanted = JSON.stringify([path, query]);
  const load = async (abort, cursor) => {
    setPages((last) => ({ ...last, busy: true }));
    try {
      const page = await request(path, { query: { ...query, cursor }, signal: abort.signal });
      if (abort.signal.aborted) return;
      setPages((last) => ({ items: [...(cursor ? last.items : []), ...page.items], cursor: page.next_cursor, problem: null, busy: false }));
    } catch (error) {
      if (abort.signal.aborted) return;
      const problem = asProblem(error);
      setPages((last) => ({ ...last, problem, busy: false }));
    }
  };
  useEffect(() => {
    const abort = new AbortController();
    current.current = abort;
    setPages(empty);
    load(abort, null);
    return () => abort.abort();
  }, [wanted, round]);
  return {
    ...pages,
    hasMore: pages.cursor !== null && pages.cursor !== undefined,
    more: () => load(current.current, pages.cursor),
    again: () => setRound((last) => last + 1),
  };
}

/** All pages of a list that is short by nature: `{data, problem}`. */
export function useAll(path, query = {}) {
  const [answer, setAnswer] = useState({ data: null, problem: null });
  const wanted = JSON.stringify([path, query]);
  useEffect(() => {
    const abort = new AbortController();
    const read = async () => {
      const items = [];
      let cursor = null;
      do {
        const page = await request(path, { query: { ...query, cursor }, signal: abort.signal });
        items.push(...page.items);
        cursor = page.next_cursor;
      } while (cursor);
      setAnswer({ data: items, problem: null });
    };
    setAnswer({ data: null, problem: null });
    read().catch((error) => {
      if (!abort.signal.aborted) setAnswer({ data: null, problem: asProblem(error) });
    });
    return () => abort.abort();
  }, [wanted]);
  return answer;
}

export function More({ pages }) {
  if (!pages.hasMore) return null;
  return html`<div class="more"><button class="button" type="button" disabled=${pages.busy} onClick=${pages.more}>${pages.busy ? "Loading…" : "Show more"}</button></div>`;
}

export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong>${children && html`<span>${children}</span>`}</div>`;
export const Loading = () => html`<div class="empty" role="status">Loading…</div>`;

// Conversations: their list, and the one that is open.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../lib/html.js";
import { caller, can, randomId } from "../lib/api.js";
import { isOpen, openMessage, stepsOf } from "../lib/conversation.js";
import { go, link, route } from "../lib/router.js";
import { browser, tab } from "../lib/storage.js";
import { Composer } from "../chat/composer.js";
import { Conversations } from "../chat/list.js";
import { cancel, note, openStore, send } from "../chat/store.js";
import { Turn } from "../chat/turn.js";
import { Icon, Wheel } from "../parts/icons.js";
import { useAnswer } from "../parts/loading.js";
import { ProblemNotice } from "../parts/notice.js";

const LIST_EACH_MS = 3_000;
const AT_THE_END_PX = 90;
const EXAMPLES = ["What is 17% of 4,250?", "What time is it in Tokyo and in New York?", "How do I make a slow meeting shorter?"];

export function Chat() {
  const { argument: id, query } = route.value;
  const { me } = caller.value;
  const list = useAnswer("/v1/sessions", { query: { user_id: me.name, limit: 100 }, everyMs: LIST_EACH_MS });
  const agents = useAnswer("/v1/agents").data?.items ?? [];
  const store = useMemo(() => (id ? openStore(id) : null), [id]);
  useEffect(() => () => store?.close(), [store]);
  const title = list.data?.items.find((item) => item.session_id === id)?.title;
  return html`<div class="chat ${id || query.new ? "open" : "list"}">
    <${Conversations} items=${list.data?.items ?? null} problem=${list.problem} openId=${id} />
    <${Talk} key=${id || "new"} store=${store} title=${title} agents=${agents} />
  </div>`;
}

function Talk({ store, title, agents }) {
  const [agent, setAgent] = useState(tab.get(`agent.${store?.id ?? "new"}`) ?? "");
  const [given, setGiven] = useState(null);
  const chosen = agent || lastAgent(store) || browser.get("agent") || agents[0]?.name || "";
  const choose = (name) => {
    setAgent(name);
    browser.set("agent", name);
    tab.set(`agent.${store?.id ?? "new"}`, name);
  };
  const onSend = (text) => {
    if (store) return send(store, text, chosen);
    const id = `${caller.value.me.session_prefix}c-${randomId(6)}`;
    tab.remove("agent.new");
    note(id, text, chosen);
    go("chat", id);
    return undefined;
  };
  const running = store && store.version.value >= 0 ? openMessage(store.conversation) : null;
  return html`<section class="talk" aria-label="Conversation">
    <${Head} store=${store} title=${title} />
    ${store ? html`<${Turns} store=${store} onEdit=${(text) => setGiven({ text })} />` : html`<${Welcome} onChoose=${(text) => setGiven({ text })} />`}
    ${can("sessions:write") && html`<${Composer} draft=${store?.id ?? "new"} agents=${agents} agent=${chosen} onAgent=${choose} onSend=${onSend}
      onStop=${running ? () => cancel(store, running) : null} given=${given} />`}
  </section>`;
}

const lastAgent = (store) => store?.conversation.messages.findLast(({ agent }) => agent)?.agent;

const CONNECTION = { connecting: "Connecting…", live: "Live", waiting: "Reconnecting…", refused: "Not connected" };

function Head({ store, title }) {
  const first = store?.version.value >= 0 ? store.conversation.messages[0]?.text : null;
  const connection = store?.connection.value;
  return html`<header>
    <a class="button quiet small back" href=${link("chat")} aria-label="All conversations"><${Icon} name="back" /></a>
    <h1>${store ? title || first?.slice(0, 120) || store.id : "New conversation"}</h1>
    ${store && html`<span class="connection ${connection.name}" role="status">${CONNECTION[connection.name]}</span>
      <a class="button quiet small hide-on-phone" href=${link("sessions", store.id)}>Timeline</a>`}
  </header>`;
}

function Turns({ store, onEdit }) {
  const box = useRef(null);
  const follows = useRef(true);
  const version = store.version.value;
  const { messages } = store.conversation;
  const connection = store.connection.value;
  useLayoutEffect(() => {
    if (follows.current) box.current.scrollTop = box.current.scrollHeight;
  }, [version, messages.length]);
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    follows.current = scrollHeight - scrollTop - clientHeight < AT_THE_END_PX;
  };
  return html`<div class="turns" ref=${box} onScroll=${onScroll} tabindex="0" role="region" aria-label="Messages" aria-busy=${String(messages.some(isOpen))}>
    <${ProblemNotice} problem=${store.problem.value} />
    ${connection.name === "refused" && html`<${ProblemNotice} problem=${connection.problem} />`}
    ${store.loaded.value && messages.length === 0 && html`<p class="muted">Nothing was said in this conversation yet, or it is older than what is kept.</p>`}
    <ol>${messages.map((message) => html`<${Turn} key=${message.id} store=${store} message=${message} onEdit=${onEdit} />`)}</ol>
    <${Announcer} store=${store} />
  </div>`;
}

/** Says to a screen reader what happens: each tool, and an answer once, when it is whole. */
function Announcer({ store }) {
  const { conversation } = store;
  const seen = useRef(null);
  const last = conversation.messages.at(-1);
  const step = last ? stepsOf(conversation, last).at(-1) : null;
  // What had ended before the conversation was opened is not news.
  if (last && seen.current === null) seen.current = isOpen(last) ? "" : last.id;
  let words = "";
  if (last && last.id !== seen.current) {
    if (last.status === "completed") words = `${last.agent} answers: ${last.end.text}`;
    else if (last.status === "failed") words = `No answer: ${last.end.error.message}`;
    else if (last.status === "cancelled") words = "The answer was stopped.";
    else if (last.status === "waiting") words = `${step?.tool} waits for your approval.`;
    else if (step?.kind === "tool") words = `Running ${step.tool}`;
    else if (last.status === "running") words = `${last.agent} is answering.`;
  }
  return html`<div class="hidden-but-read" aria-live="polite" data-announcer>${words}</div>`;
}

function Welcome({ onChoose }) {
  return html`<div class="turns"><div class="welcome">
    <${Wheel} />
    <h2>What shall the mill work on?</h2>
    <p class="muted">A message that was accepted is answered, once, whatever dies on the way. You may close this page in the middle of an answer.</p>
    <ul aria-label="Examples">${EXAMPLES.map((text) => html`<li><button type="button" onClick=${() => onChoose(text)}>${text}</button></li>`)}</ul>
  </div></div>`;
}

// The console begins here: who is it, and what do they look at.
import { html, render, useEffect } from "./lib/html.js";
import { caller, signIn } from "./lib/api.js";
import { route } from "./lib/router.js";
import { offered, Shell, VIEWS } from "./parts/shell.js";
import { Wheel } from "./parts/icons.js";
import { Notice, ProblemNotice } from "./parts/notice.js";
import { Page } from "./parts/page.js";
import { Audit } from "./views/audit.js";
import { Chat } from "./views/chat.js";
import { DeadLetters } from "./views/dead_letters.js";
import { Pipeline } from "./views/pipeline.js";
import { Sessions } from "./views/sessions.js";
import { SignIn } from "./views/sign_in.js";
import { Usage } from "./views/usage.js";

const SHOWN = { chat: Chat, pipeline: Pipeline, sessions: Sessions, "dead-letters": DeadLetters, audit: Audit, usage: Usage };
const ASK_AGAIN_MS = 2_000;

function Starting({ problem }) {
  useEffect(() => {
    if (!problem) return undefined;
    const timer = setTimeout(() => signIn(), ASK_AGAIN_MS);
    return () => clearTimeout(timer);
  }, [problem]);
  return html`<main class="gate"><div class="card"><span class="brand"><${Wheel} />Headrace</span>
    ${problem ? html`<${ProblemNotice} problem=${problem} />` : html`<p class="muted" role="status">Connecting…</p>`}</div></main>`;
}

const NotOffered = () => html`<${Page} title="Not for this key"><${Notice} kind="warn" title="Nothing to see here">
  <span>There is no such view, or it wants a scope that the key does not have. An operator gives scopes with <code>headrace keys create --scope</code>.</span><//><//>`;

function App() {
  const { state, problem } = caller.value;
  // Without a view in the address, it is the first one that the key is good for.
  const asked = route.value.view;
  const view = state === "in" && !location.hash ? (offered()[0]?.name ?? "") : asked;
  const shown = state === "in" && !offered().some(({ name }) => name === view) ? NotOffered : SHOWN[view];
  useEffect(() => {
    const label = VIEWS.find(({ name }) => name === view)?.label ?? "Console";
    document.title = state === "in" ? `${label} · Headrace` : "Headrace";
  }, [view, state]);
  if (state === "out") return html`<${SignIn} />`;
  if (state === "starting") return html`<${Starting} problem=${problem} />`;
  return html`<${Shell} view=${view}><${shown} key=${view} /><//>`;
}

const root = document.getElementById("app");
root.textContent = "";
render(html`<${App} />`, root);
signIn();

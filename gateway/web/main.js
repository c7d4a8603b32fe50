// The console begins here: who is it, and what do they look at.
import { html, render, useEffect } from "./lib/html.js";
import { caller, signIn } from "./lib/api.js";
import { route } from "./lib/router.js";
import { Shell, VIEWS } from "./parts/shell.js";
import { Wheel } from "./parts/icons.js";
import { ProblemNotice } from "./parts/notice.js";
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

function App() {
  const { state, problem } = caller.value;
  const { view } = route.value;
  const shown = SHOWN[view] ?? Chat;
  useEffect(() => {
    const label = VIEWS.find(({ name }) => name === view)?.label ?? "Chat";
    document.title = state === "in" ? `${label} · Headrace` : "Headrace";
  }, [view, state]);
  if (state === "out") return html`<${SignIn} />`;
  if (state === "starting") return html`<${Starting} problem=${problem} />`;
  return html`<${Shell}><${shown} key=${view} /><//>`;
}

const root = document.getElementById("app");
root.textContent = "";
render(html`<${App} />`, root);
signIn();

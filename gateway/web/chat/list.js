// The conversations of whoever is signed in, the last one first.
import { html } from "../lib/html.js";
import { link } from "../lib/router.js";
import { when, words } from "../lib/format.js";
import { Icon } from "../parts/icons.js";
import { Empty } from "../parts/loading.js";
import { ProblemNotice } from "../parts/notice.js";

const DOTS = { running: "", waiting_for_approval: "warn", failed: "bad" };

export function Conversations({ items, problem, openId }) {
  return html`<section class="conversations" aria-label="Conversations">
    <header><h2>Conversations</h2><a class="button small" href=${link("chat", "", { new: 1 })}><${Icon} name="plus" />New</a></header>
    ${problem && !items && html`<${ProblemNotice} problem=${problem} />`}
    ${items?.length === 0 && html`<${Empty} title="None yet">Your conversations are listed here.<//>`}
    <ul>${items?.map((item) => html`<li key=${item.session_id}><a href=${link("chat", item.session_id)} aria-current=${item.session_id === openId ? "true" : null}>
      <span class="row"><span class="title">${item.status in DOTS && html`<span class="dot ${DOTS[item.status]}" role="img" aria-label=${words(item.status)}></span>`}${item.title || item.session_id}</span>
        <time datetime=${item.last_activity_at}>${when(item.last_activity_at)}</time></span>
      <span class="last">${item.last_message && item.last_message !== item.title ? item.last_message : words(item.status)}</span>
    </a></li>`)}</ul>
  </section>`;
}

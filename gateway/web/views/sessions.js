// All sessions, and the timeline of one.
import { html } from "../lib/html.js";
import { moment } from "../lib/format.js";
import { go, link, route } from "../lib/router.js";
import { Empty, Loading, More, usePages } from "../parts/loading.js";
import { ProblemNotice } from "../parts/notice.js";
import { Page } from "../parts/page.js";
import { Status } from "../parts/status.js";
import { Timeline } from "../timeline/timeline.js";

const PER_PAGE = 50;

export function Sessions() {
  const { argument: id } = route.value;
  return id ? html`<${Timeline} key=${id} id=${id} />` : html`<${List} />`;
}

function List() {
  const { query } = route.value;
  const pages = usePages("/v1/sessions", { user_id: query.user_id, limit: PER_PAGE });
  const open = (event) => {
    event.preventDefault();
    const id = new FormData(event.currentTarget).get("id").trim();
    if (id) go("sessions", id);
  };
  return html`<${Page} title="Sessions" lead="Every conversation, whoever has it: over HTTP, or with a Kafka client. The last active one comes first."
      aside=${html`<form class="inline-form" onSubmit=${open} role="search" aria-label="Open a session">
        <label class="hidden-but-read" for="session-id">Session id</label>
        <input class="input" id="session-id" name="id" placeholder="Session id" autocomplete="off" spellcheck=${false} /><button class="button" type="submit">Open</button></form>`}>
    <${ProblemNotice} problem=${pages.problem} />
    ${pages.items === null ? !pages.problem && html`<${Loading} />` : html`<section class="card" aria-label="Sessions">
      ${pages.items.length === 0 ? html`<${Empty} title="No sessions yet"><a href=${link("chat", "", { new: 1 })}>Begin a conversation</a>.<//>` : html`<ul class="rows">
        ${pages.items.map((item) => html`<li key=${item.session_id}><a class="row-link" href=${link("sessions", item.session_id)}>
          <span class="row-head"><strong>${item.title || item.session_id}</strong><${Status} name=${item.status} /><time class="muted small" datetime=${item.last_activity_at}>${moment(item.last_activity_at)}</time></span>
          <span class="muted small">${[item.title && item.session_id, item.agent, item.user_id, item.tool && `runs ${item.tool}`].filter(Boolean).join(" · ")}</span>
        </a></li>`)}</ul>`}
      <${More} pages=${pages} />
    </section>`}
  <//>`;
}

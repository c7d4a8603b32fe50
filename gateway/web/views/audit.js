// Who did what at the door, and how it ended.
import { html } from "../lib/html.js";
import { moment, words } from "../lib/format.js";
import { link, route } from "../lib/router.js";
import { Empty, Loading, More, usePages } from "../parts/loading.js";
import { Filters } from "../parts/filters.js";
import { Json } from "../parts/json.js";
import { ProblemNotice } from "../parts/notice.js";
import { Page } from "../parts/page.js";
import { Status } from "../parts/status.js";

const TYPES = [
  "command_sent", "authentication_failed", "forbidden", "key_created", "key_revoked", "dead_letter_replayed", "message_accepted", "cancel_requested",
  "approval_decided", "session_end_requested", "session_release_requested", "session_expired", "model_failed", "tool_started", "tool_completed", "tool_failed", "record_dead_lettered",
];
const OUTCOMES = ["success", "denied", "failed"];
const PER_PAGE = 50;
const iso = (local) => (local ? new Date(local).toISOString() : "");

export function Audit() {
  const { query } = route.value;
  const { from, to, ...rest } = query;
  const pages = usePages("/v1/audit", { ...rest, from: iso(from), to: iso(to), limit: PER_PAGE });
  const fields = [
    { name: "type", label: "Act", options: TYPES.map((name) => [name, words(name)]) },
    { name: "outcome", label: "Outcome", options: OUTCOMES.map((name) => [name, name]) },
    { name: "user_id", label: "User" },
    { name: "session_id", label: "Session" },
    { name: "ip", label: "Address", placeholder: "192.0.2.1" },
    { name: "from", label: "From", type: "datetime-local" },
    { name: "to", label: "Until", type: "datetime-local" },
  ];
  return html`<${Page} title="Audit" lead="Who did what, at the gateway, with the headrace command or in the pipeline, and how it ended.">
    <${Filters} view="audit" label="Search the audit log" fields=${fields} />
    <${ProblemNotice} problem=${pages.problem} />
    ${pages.items === null ? !pages.problem && html`<${Loading} />` : html`<section class="card" aria-label="Audit log">
      ${pages.items.length === 0 ? html`<${Empty} title="Nothing found">No act fits the search.<//>` : html`<ul class="rows">${pages.items.map((act) => html`<${Row} key=${act.id} act=${act} />`)}</ul>`}
      <${More} pages=${pages} />
    </section>`}
  <//>`;
}

function Row({ act }) {
  const facts = [["User", act.user_id], ["Tenant", act.tenant], ["Key", act.key_id], ["Address", act.ip_address], ["Why", act.outcome_details]].filter(([, value]) => value);
  return html`<li><details class="row-details">
    <summary><span class="row-head"><strong>${words(act.event_type)}</strong><${Status} name=${act.outcome} /><time class="muted small" datetime=${act.at}>${moment(act.at)}</time></span>
      <span class="muted small">${[act.user_id, act.session_id && `session ${act.session_id}`, act.ip_address, act.outcome_details].filter(Boolean).join(" · ")}</span></summary>
    <div class="inside stack">
      <dl class="facts">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}
        ${act.session_id && html`<dt>Session</dt><dd><a href=${link("sessions", act.session_id)}>${act.session_id}</a></dd>`}
        <dt>Id</dt><dd class="mono">${act.id}</dd></dl>
      ${Object.keys(act.details ?? {}).length > 0 && html`<div><h3>Details</h3><${Json} value=${act.details} label="Details" /></div>`}
    </div>
  </details></li>`;
}

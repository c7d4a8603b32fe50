// One session's timeline: every fact and event, with its place in its turn's time, tokens and cost.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { cost, count, duration, moment, words } from "../lib/format.js";
import { link, route } from "../lib/router.js";
import { Empty, Loading, More, useAnswer, usePages } from "../parts/loading.js";
import { Json } from "../parts/json.js";
import { ProblemNotice } from "../parts/notice.js";
import { Page } from "../parts/page.js";
import { Status } from "../parts/status.js";
import { barOf, briefOf, groupByTurn } from "./turns.js";

const PER_PAGE = 200;
const ENDS = { turn_completed: "completed", turn_failed: "failed", turn_cancelled: "cancelled", broadcast_completed: "completed" };

export function Timeline({ id }) {
  const path = `/v1/sessions/${encodeURIComponent(id)}`;
  const session = useAnswer(path);
  const pages = usePages(`${path}/log`, { limit: PER_PAGE });
  const groups = pages.items ? groupByTurn(pages.items) : [];
  return html`<${Page} title="Timeline" lead=${html`<a href=${link("sessions")}>All sessions</a> · <span class="mono">${id}</span>`}
      aside=${html`<div class="buttons"><button class="button" type="button" onClick=${() => { session.again(); pages.again(); }}>Refresh</button><a class="button" href=${link("chat", id)}>Open the conversation</a></div>`}>
    <${ProblemNotice} problem=${session.problem?.status === 404 ? pages.problem : session.problem ?? pages.problem} />
    ${pages.items && html`<${Totals} groups=${groups} session=${session.data} />`}
    ${pages.items === null ? !pages.problem && html`<${Loading} />` : html`
      ${pages.items.length === 0 && html`<section class="card"><${Empty} title="Nothing is known of this session">It has not begun, or is older than what is kept.<//></section>`}
      ${groups.map((group) => html`<${Turn} key=${group.id} group=${group} />`)}
      <${More} pages=${pages} />`}
  <//>`;
}

const sum = (records, of) => records.reduce((total, record) => total + (of(record) ?? 0), 0);
/** Model calls count: the end of a turn repeats their sum. */
const isCall = ({ type }) => type === "model_completed" || type === "model_failed";
const tokensOf = (record) => (record.input_tokens ?? 0) + (record.output_tokens ?? 0);
const costOf = (record) => record.cost_micros;

function Totals({ groups, session }) {
  const records = groups.flatMap((group) => group.records);
  const calls = records.filter(isCall);
  const turns = groups.filter(({ id }) => id);
  const figures = [
    ["Turns", count(turns.length)],
    ["Time in turns", duration(turns.reduce((total, { from, to }) => total + to - from, 0))],
    ["Model calls", count(calls.length)],
    ["Tokens", count(sum(calls, tokensOf))],
    ["Cost", cost(sum(calls, costOf))],
  ];
  return html`<dl class="card figures">${session?.status && html`<div><dt>Status</dt><dd class="as-text"><${Status} name=${session.status} /></dd></div>`}
    ${figures.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Turn({ group }) {
  const box = useRef(null);
  const wanted = route.value.query.turn === group.id && group.id !== "";
  useEffect(() => { if (wanted) box.current.scrollIntoView({ block: "start" }); }, [wanted]);
  const end = group.records.find(({ type }) => type in ENDS);
  const calls = group.records.filter(isCall);
  const number = group.id.slice(group.id.lastIndexOf("/") + 1);
  return html`<section class="card turn-card ${wanted ? "wanted" : ""}" ref=${box} aria-label=${group.id ? `Turn ${number}` : "Outside of turns"}>
    <header class="row-head"><h2>${group.id ? `Turn ${number}` : "Outside of turns"}</h2>${end ? html`<${Status} name=${ENDS[end.type]} />` : group.id && html`<${Status} name="running" />`}
      <span class="muted small">${[group.id && duration(group.to - group.from), calls.length > 0 && `${count(sum(calls, tokensOf))} tokens`, calls.length > 0 && cost(sum(calls, costOf))].filter(Boolean).join(" · ")}</span>
      <time class="muted small" datetime=${new Date(group.from).toISOString()}>${moment(group.from)}</time></header>
    <ol class="track">${group.records.map((record) => html`<${Row} key=${Object.values(record.place).join("/")} record=${record} group=${group} />`)}</ol>
  </section>`;
}

const KIND = { model: "model", tool: "tool", approval: "approval" };

function Row({ record, group }) {
  const [isOpen, setOpen] = useState(false);
  const bar = barOf(record, group);
  const kind = KIND[record.type.split("_")[0]] ?? (record.type.startsWith("turn_") ? "turn" : "");
  const isBad = record.type.endsWith("_failed") || record.body?.is_error;
  const shown = isCall(record) ? `${count(tokensOf(record))} tok` : "";
  return html`<li><details onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>
      <span class="offset">+${duration(Date.parse(record.at) - group.from)}</span>
      <span class="what"><span class="type ${isBad ? "bad" : ""}">${words(record.type)}</span><span class="brief">${briefOf(record)}</span></span>
      <span class="bar" aria-hidden="true"><i class=${`${kind} ${isBad ? "bad" : ""}`} ref=${(element) => element && Object.assign(element.style, { left: `${bar.left}%`, width: `${bar.width}%` })}></i></span>
      <span class="figure">${record.duration_ms ? duration(record.duration_ms) : ""}</span>
      <span class="figure">${shown}</span>
      <span class="figure">${isCall(record) ? cost(costOf(record)) : ""}</span>
    </summary>
    ${isOpen && html`<div class="inside"><p class="muted small">${record.place.topic}, partition ${record.place.partition}, offset ${count(record.place.offset)} · ${moment(record.at)} · ${count(record.body_bytes)} bytes</p>
      ${record.body === null ? html`<p class="muted">The record is too large to be shown here: read it from its topic.</p>` : html`<${Json} value=${record.body} label=${words(record.type)} />`}</div>`}
  </details></li>`;
}

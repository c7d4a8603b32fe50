// What was consumed and what it cost: by day, agent and model; and what goes on, by the minute.
import { html, useState } from "../lib/html.js";
import { can, caller } from "../lib/api.js";
import { cost, count, short } from "../lib/format.js";
import { route, go } from "../lib/router.js";
import { Chart } from "../parts/chart.js";
import { Empty, Loading, useAll, useAnswer } from "../parts/loading.js";
import { ProblemNotice } from "../parts/notice.js";
import { Page } from "../parts/page.js";
import { byDay, perMinute, SHOWN_MINUTES, totals } from "../usage/series.js";

const SPANS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"]];
const GROUPS = [["agent", "Agent"], ["model", "Model"], ["tenant", "Tenant"]];
const DAY_MS = 86_400_000;
const STATS_EACH_MS = 5_000;

const dayBefore = (days) => new Date(Date.now() - (days - 1) * DAY_MS).toISOString().slice(0, 10);

export function Usage() {
  const { query } = route.value;
  const days = Number(query.days ?? 30);
  const group = query.by ?? "agent";
  const { data, problem } = useAll("/v1/usage", { from: dayBefore(days), limit: 200 });
  const set = (change) => go("usage", "", { ...query, ...change }, { replace: true });
  const controls = html`<div class="buttons"><${Choice} label="Time" value=${String(days)} options=${SPANS} onChange=${(value) => set({ days: value })} />
    <${Choice} label="By" value=${group} options=${GROUPS} onChange=${(value) => set({ by: value })} /></div>`;
  return html`<${Page} title="Usage" lead="Tokens and cost of every model call, failed attempts included. Days are UTC." aside=${controls}>
    <${ProblemNotice} problem=${problem} />
    ${data ? html`<${Consumed} rows=${data} days=${days} group=${group} />` : !problem && html`<${Loading} />`}
    ${can("stats:read") && !caller.value.me.tenant && html`<${Now} />`}
  <//>`;
}

const Choice = ({ label, value, options, onChange }) => html`<label class="field inline"><span>${label}</span>
  <select class="input" onChange=${(event) => onChange(event.currentTarget.value)}>${options.map(([name, text]) => html`<option value=${name} selected=${name === value}>${text}</option>`)}</select></label>`;

function Consumed({ rows, days, group }) {
  const all = totals(rows, () => "")[0];
  if (!all) return html`<section class="card"><${Empty} title="Nothing was consumed in this time">Each model call is counted here a moment after it ended.<//></section>`;
  const figures = [["Cost", cost(all.cost_micros)], ["Model calls", count(all.calls)], ["Failed calls", count(all.failed_calls)], ["Input tokens", short(all.input)], ["From the cache", short(all.cache_read_tokens)], ["Output tokens", short(all.output_tokens)]];
  return html`
    <dl class="card figures">${figures.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <div class="charts">
      <section class="card padded"><h2>Cost per day</h2><${Chart} ...${byDay(rows, days, (row) => row[group] || "none", (row) => row.cost_micros / 1e6)} format=${(value) => cost(value * 1e6)} label="Cost per day" /></section>
      <section class="card padded"><h2>Tokens per day</h2><${Chart} ...${byDay(rows, days, (row) => row[group] || "none", (row) => row.input + row.output_tokens)} format=${short} label="Tokens per day" /></section>
    </div>
    <${Table} rows=${totals(rows, (row) => row[group] || "none")} group=${group} />`;
}

function Table({ rows, group }) {
  const name = GROUPS.find(([value]) => value === group)[1];
  return html`<section class="card"><div class="scroll" tabindex="0" role="region" aria-label="Usage by ${name.toLowerCase()}"><table class="list">
    <thead><tr><th scope="col">${name}</th><th scope="col" class="number">Calls</th><th scope="col" class="number">Failed</th><th scope="col" class="number">Input</th><th scope="col" class="number">Output</th><th scope="col" class="number">Cost</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr><th scope="row">${row.name}</th><td class="number">${count(row.calls)}</td><td class="number">${count(row.failed_calls)}</td><td class="number">${count(row.input)}</td><td class="number">${count(row.output_tokens)}</td><td class="number">${cost(row.cost_micros)}</td></tr>`)}</tbody>
  </table></div></section>`;
}

function Now() {
  const { data, problem } = useAnswer("/v1/stats", { query: { minutes: SHOWN_MINUTES }, everyMs: STATS_EACH_MS });
  const [names] = useState({ turns_completed: "completed", turns_failed: "failed", turns_cancelled: "cancelled" });
  return html`<${ProblemNotice} problem=${problem} />
    ${data && html`<section class="card padded"><h2>Turns per minute, last hour</h2><${Chart} ...${perMinute(data, names)} format=${short} label="Turns per minute in the last hour" kind="outcomes" isTime /></section>`}`;
}

// The pipeline as it runs: topics are channels, processors are boxes, and what flows is what moves.
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { count, rate, short } from "../lib/format.js";
import { link } from "../lib/router.js";
import { Loading, useAnswer } from "../parts/loading.js";
import { ProblemNotice } from "../parts/notice.js";
import { Page } from "../parts/page.js";
import { DEAD_LETTERS, layOut } from "../pipeline/layout.js";

const EACH_MS = 1_000;
const BEHIND = 100;

export function Pipeline() {
  const { data, problem } = useAnswer("/v1/pipeline", { everyMs: EACH_MS });
  return html`<${Page} title="Pipeline" lead="What flows through the topics now, and who works on it.">
    <${ProblemNotice} problem=${problem} />
    ${data ? html`<${Live} data=${data} />` : !problem && html`<${Loading} />`}
  <//>`;
}

function Live({ data }) {
  const figures = [
    ["Active sessions", data.active_sessions],
    ["Model calls in flight", data.open_model_calls],
    ["Tool calls in flight", data.open_tool_calls],
    ["Dead letters, last hour", data.dead_letters_last_hour, link("dead-letters")],
  ];
  return html`
    <dl class="card figures">${figures.map(([name, value, target]) => html`<div><dt>${name}</dt><dd class=${target && value > 0 ? "bad" : ""}>${target && value > 0 ? html`<a href=${target}>${count(value)}</a>` : count(value)}</dd></div>`)}</dl>
    <div class="flow-and-tables">
      <section class="card flow" aria-label="The flow"><${Flow} data=${data} /></section>
      <div class="tables">
        <${Topics} topics=${data.topics} />
        <${Projections} projections=${data.projections} />
      </div>
    </div>`;
}

function Flow({ data }) {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const shape = JSON.stringify(data.nodes);
  const layout = useMemo(() => (width > 0 ? layOut(data.nodes, width) : null), [shape, width]);
  return html`<div ref=${box}>${layout && html`<${Drawing} layout=${layout} data=${data} />`}</div>`;
}

function Drawing({ layout, data }) {
  const topics = new Map(data.topics.map((topic) => [topic.name, topic]));
  const nodes = new Map(data.nodes.map((node) => [node.name, node]));
  const calls = { call_model: data.open_model_calls, call_tool: data.open_tool_calls };
  return html`<svg class="flow-picture" width=${layout.width} height=${layout.height} viewBox="0 0 ${layout.width} ${layout.height}" role="img" aria-label="The flow of records from topic to topic. The tables have the same numbers.">
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path class="arrow" d="M1 1l6 3-6 3z" /></marker></defs>
    ${layout.edges.map((edge) => html`<${Edge} key=${edge.from + edge.to} edge=${edge} perSecond=${topics.get(edge.topic)?.records_per_second ?? 0} />`)}
    ${layout.topics.map((box) => html`<${Channel} key=${box.name} box=${box} topic=${topics.get(box.name)} />`)}
    ${layout.basins.map((box) => html`<${Basin} key=${box.name} box=${box} node=${nodes.get(box.name)} />`)}
    ${layout.processors.map((box) => html`<${Processor} key=${box.name} box=${box} node=${nodes.get(box.name)} calls=${calls[box.name] ?? null} />`)}
  </svg>`;
}

/** The more flows, the faster and the wider; the speed changes in steps, so that it does not jump at each refresh. */
function Edge({ edge, perSecond }) {
  const step = perSecond > 0 ? Math.min(6, Math.max(1, Math.round(Math.log2(perSecond + 1)))) : 0;
  return html`<g class="edge">
    <path class="bed" d=${edge.path} marker-end="url(#arrow)" />
    ${step > 0 && html`<path class="water speed-${step}" d=${edge.path} />`}
  </g>`;
}

// Letters are narrower where the boxes are: see the style sheet.
const NARROW_PX = 120;
const scale = (width) => (width < NARROW_PX ? 0.87 : 1);
const fits = (text, width, perCharacter) => {
  const most = Math.floor(width / (perCharacter * scale(width)));
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
};

function Channel({ box, topic }) {
  const { x, y, w, h } = box;
  const isDead = box.name === DEAD_LETTERS;
  const isBehind = (topic?.lag ?? 0) > BEHIND;
  const lag = topic?.lag > 0 ? ` · ${short(topic.lag)} behind` : "";
  const numbers = isDead ? `${short(topic?.records)} in all` : `${rate(topic?.records_per_second)}/s${lag}`;
  return html`<g class="channel ${isDead ? "dead" : ""} ${topic?.records_per_second > 0 ? "flowing" : ""} ${isBehind ? "behind" : ""}">
    <rect x=${x} y=${y} width=${w} height=${h} rx=${h / 2} />
    <text class="name" x=${x + w / 2} y=${y + 23} text-anchor="middle">${fits(box.name, w - 8, 7.1)}</text>
    <text class="numbers" x=${x + w / 2} y=${y + 40} text-anchor="middle">${fits(numbers, w - 12, 6)}</text>
  </g>`;
}

function Processor({ box, node, calls }) {
  const { x, y, w, h } = box;
  const lines = calls > 0 ? [`${count(calls)} in flight`] : wrapped(node.does, w - 10);
  const top = y + h / 2 - lines.length * 8;
  return html`<g class="processor ${calls > 0 ? "working" : ""}">
    <title>${node.name}: ${node.does}</title>
    <rect x=${x} y=${y} width=${w} height=${h} rx="9" />
    <text class="name" x=${x + w / 2} y=${top + 5} text-anchor="middle">${fits(box.name, w - 4, 7.1)}</text>
    ${lines.map((line, index) => html`<text class="numbers" x=${x + w / 2} y=${top + 22 + index * 15} text-anchor="middle">${line}</text>`)}
  </g>`;
}

/** Two lines at most. */
function wrapped(text, width) {
  const most = Math.floor(width / (6.3 * scale(width)));
  if (text.length <= most) return [text];
  const cut = text.lastIndexOf(" ", most);
  const first = text.slice(0, cut > 0 ? cut : most);
  return [first, fits(text.slice(first.length).trim(), width, 6.3)];
}

function Basin({ box, node }) {
  const { x, y, w, h } = box;
  return html`<g class="processor basin">
    <title>${node.name}: ${node.does}. Reads ${node.reads.join(", ")}.</title>
    <rect x=${x} y=${y} width=${w} height=${h} rx="9" />
    <text class="name" x=${x + w / 2} y=${y + 24} text-anchor="middle">${node.name}</text>
    <text class="numbers" x=${x + w / 2} y=${y + 42} text-anchor="middle">${fits(`${node.does}, from ${node.reads.join(", ")}`, w - 16, 5.9)}</text>
  </g>`;
}

function Topics({ topics }) {
  return html`<section class="card"><div class="scroll" tabindex="0" role="region" aria-label="Topics"><table class="list">
    <thead><tr><th scope="col">Topic</th><th scope="col" class="number">Per second</th><th scope="col" class="number">Behind</th><th scope="col" class="number">Records</th></tr></thead>
    <tbody>${topics.map((topic) => html`<tr key=${topic.name}><th scope="row">${topic.name}${topic.reader && html`<span class="reader">read by ${topic.reader}</span>`}</th>
      <td class="number">${rate(topic.records_per_second)}</td><td class="number">${topic.lag === null ? "–" : count(topic.lag)}</td><td class="number">${count(topic.records)}</td></tr>`)}</tbody>
  </table></div></section>`;
}

function Projections({ projections }) {
  return html`<section class="card"><div class="scroll" tabindex="0" role="region" aria-label="Projections"><table class="list">
    <thead><tr><th scope="col">Projection</th><th scope="col" class="number">Records behind</th></tr></thead>
    <tbody>${projections.map((projection) => html`<tr key=${projection.name}><th scope="row">${projection.name}</th><td class="number">${projection.lag === null ? "–" : count(projection.lag)}</td></tr>`)}</tbody>
  </table></div></section>`;
}

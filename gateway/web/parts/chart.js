// Stacked bars with uPlot, in the colours of the theme, with a table for those who cannot see them.
import { html, useEffect, useRef } from "../lib/html.js";
import uPlot from "../vendor/uplot/uPlot.mjs";

const HEIGHT = 200;
// What is counted has no halves.
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000];
const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6", "--series-7"];
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** Each series on top of those before it; the last one is drawn first, so that the others cover it. */
function stacked(series) {
  const sums = [];
  for (const { values } of series) sums.push(values.map((value, index) => value + (sums.at(-1)?.[index] ?? 0)));
  return sums;
}

function draw(element, { times, series, format, isTime }) {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(name).trim();
  const sums = stacked(series);
  const at = (time) => (isTime ? minute : day).format(new Date(time * 1_000));
  const axis = { stroke: colour("--chart-text"), grid: { stroke: colour("--chart-grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const bars = uPlot.paths.bars({ size: [0.72, 44, 1], radius: 0.12 });
  const options = {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [12, 8, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: true, range: (_, from, to) => { const half = times.length > 1 ? (times[1] - times[0]) / 2 : 43_200; return [from - half, to + half]; } }, y: { range: (_, __, to) => [0, to > 0 ? to * 1.08 : 1] } },
    axes: [{ ...axis, grid: { show: false }, values: (_, splits) => splits.map(at), space: 64, size: 30 }, { ...axis, values: (_, splits) => splits.map(format), size: 64, ...(isTime ? { incrs: WHOLE } : {}) }],
    series: [{}, ...series.map((one, index) => ({ label: one.name, paths: bars, fill: colour(COLOURS[index]), stroke: colour(COLOURS[index]), width: 0, points: { show: false } })).reverse()],
  };
  return new uPlot(options, [times, ...sums.reverse()], element);
}

export function Chart({ times, series, format, label, kind = "", isTime = false }) {
  const box = useRef(null);
  const content = JSON.stringify([times, series]);
  useEffect(() => {
    let chart = draw(box.current, { times, series, format, isTime });
    const again = () => {
      chart.destroy();
      chart = draw(box.current, { times, series, format, isTime });
    };
    const observer = new ResizeObserver(() => { if (box.current.clientWidth !== chart.width) again(); });
    observer.observe(box.current);
    const system = matchMedia("(prefers-color-scheme: dark)");
    addEventListener("themechange", again);
    system.addEventListener("change", again);
    return () => {
      observer.disconnect();
      removeEventListener("themechange", again);
      system.removeEventListener("change", again);
      chart.destroy();
    };
  }, [content]);
  return html`<figure class="chart ${kind}">
    <div ref=${box} aria-hidden="true"></div>
    <figcaption><ul class="legend">${series.map(({ name }, index) => html`<li><i class="series-${index + 1}"></i>${name}</li>`)}</ul></figcaption>
    <table class="hidden-but-read"><caption>${label}</caption>
      <thead><tr><th scope="col">When</th>${series.map(({ name }) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>${times.map((time, index) => series.some(({ values }) => values[index] > 0) && html`<tr><th scope="row">${(isTime ? minute : day).format(new Date(time * 1_000))}</th>${series.map(({ values }) => html`<td>${format(values[index])}</td>`)}</tr>`)}</tbody>
    </table>
  </figure>`;
}

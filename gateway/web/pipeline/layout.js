// Where topics and processors stand in the picture of the flow: from the top down, as water runs. Pure.

const ROW = 100;
const TOPIC_HEIGHT = 52;
const PROCESSOR_HEIGHT = 64;
const NARROW = 480;
const WIDEST = 220;
const BASIN_HEIGHT = 58;
export const DEAD_LETTERS = "dead-letters";

const list = (names) => (Array.isArray(names) ? names : names ? [names] : []);

/** Edges of the graph, topic to processor and processor to topic; those that close a circle are `back`. */
function edgesOf(nodes) {
  const edges = nodes.flatMap((node) => [
    ...list(node.reads).map((topic) => ({ from: topic, to: node.name, topic })),
    ...list(node.writes).filter((topic) => topic !== DEAD_LETTERS).map((topic) => ({ from: node.name, to: topic, topic })),
  ]);
  const written = new Set(nodes.flatMap((node) => list(node.writes)));
  const sources = [...new Set(nodes.flatMap((node) => list(node.reads)))].filter((topic) => !written.has(topic));
  const state = new Map();
  const visit = (name) => {
    state.set(name, "open");
    for (const edge of edges.filter(({ from }) => from === name)) {
      if (state.get(edge.to) === "open") edge.back = true;
      else if (!state.has(edge.to)) visit(edge.to);
    }
    state.set(name, "done");
  };
  for (const name of [...sources, ...nodes.map((node) => node.name)]) if (!state.has(name)) visit(name);
  return edges;
}

/** How far each is from the top: behind all that it comes after. */
function ranksOf(edges) {
  const ranks = new Map(edges.flatMap(({ from, to }) => [[from, 0], [to, 0]]));
  const settle = () => {
    for (let round = 0; round < ranks.size; round += 1) {
      for (const { from, to, back } of edges) if (!back) ranks.set(to, Math.max(ranks.get(to), ranks.get(from) + 1));
    }
  };
  settle();
  // Who reads nothing stands right above what it writes first, and what else it writes follows.
  const reached = new Set(edges.map(({ to }) => to));
  for (const { from, to } of edges) {
    if (!reached.has(from)) ranks.set(from, Math.max(ranks.get(from), ranks.get(to) - 1));
  }
  settle();
  return ranks;
}

/**
 * `{width, height, topics, processors, basins, edges}`; boxes have `{name, x, y, w, h}`, edges `{path, topic, back}`. Who
 * reads several topics, as projections do, is a basin at the bottom, with the names of what runs into it and no lines.
 */
export function layOut(allNodes, width) {
  const isBasin = (node) => list(node.reads).length > 1 && list(node.writes).length === 0;
  const nodes = allNodes.filter((node) => !isBasin(node));
  const edges = edgesOf(nodes);
  const ranks = ranksOf(edges);
  const processors = new Set(nodes.map((node) => node.name));
  const rows = [];
  for (const [name, rank] of ranks) (rows[rank] ??= []).push(name);
  const last = rows.length - 1;
  rows[processors.has(rows[last][0]) ? last + 1 : last] ??= [];
  rows.at(-1).push(DEAD_LETTERS);
  const most = Math.max(...rows.map((row) => row.length));
  const [margin, gap] = width < NARROW ? [16, 8] : [26, 14];
  order(rows, edges, most);
  const w = Math.min(WIDEST, (width - 2 * margin - (most - 1) * gap) / most);
  const boxes = new Map();
  rows.forEach((row, rank) => {
    // A row that has fewer than the widest begins where the row above it does, so that columns go on.
    const slots = row.length === 1 && rank < last ? 1 : most;
    const span = slots * w + (slots - 1) * gap;
    row.forEach((name, index) => {
      const slot = name === DEAD_LETTERS ? slots - 1 : index;
      const h = processors.has(name) ? PROCESSOR_HEIGHT : TOPIC_HEIGHT;
      boxes.set(name, { name, x: (width - span) / 2 + slot * (w + gap), y: rank * ROW + (ROW - h) / 2, w, h });
    });
  });
  return {
    width,
    height: rows.length * ROW + allNodes.filter(isBasin).length * (BASIN_HEIGHT + 10),
    basins: allNodes.filter(isBasin).map((node, index) => ({
      name: node.name,
      x: margin,
      y: rows.length * ROW + index * (BASIN_HEIGHT + 10),
      w: width - 2 * margin,
      h: BASIN_HEIGHT,
    })),
    topics: [...boxes.values()].filter(({ name }) => !processors.has(name)),
    processors: [...boxes.values()].filter(({ name }) => processors.has(name)),
    edges: edges.map((edge) => ({ ...edge, path: pathOf(boxes.get(edge.from), boxes.get(edge.to), edge.back, { width, margin: margin }) })),
  };
}

/** Each row in the order of what runs into it, so that lines cross as little as they can. */
function order(rows, edges, most) {
  const columns = new Map();
  for (const row of rows) {
    const wanted = new Map(row.map((name) => {
      const above = edges.filter((edge) => edge.to === name && !edge.back).map(({ from }) => columns.get(from));
      return [name, above.length > 0 ? above.reduce((sum, column) => sum + column, 0) / above.length : name === DEAD_LETTERS ? most : -1];
    }));
    row.sort((a, b) => wanted.get(a) - wanted.get(b));
    row.forEach((name, index) => columns.set(name, row.length === 1 ? (most - 1) / 2 : index));
  }
}

function pathOf(from, to, back, frame) {
  if (back) return upwards(from, to, frame);
  const x1 = from.x + from.w / 2;
  const x2 = to.x + to.w / 2;
  const y1 = from.y + from.h;
  const y2 = to.y;
  const middle = (y1 + y2) / 2;
  return x1 === x2 ? `M${x1} ${y1}V${y2}` : `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
}

/** Along the nearer margin: out of the side of the one, up, and into the same side of the other. */
function upwards(from, to, { width, margin }) {
  const left = from.x + from.w / 2 < width / 2 - 1;
  const out = left ? from.x : from.x + from.w;
  const into = left ? to.x : to.x + to.w;
  const x = left ? margin / 2 : width - margin / 2;
  const turn = ((left ? 1 : -1) * margin) / 2.6;
  const y1 = from.y + from.h / 2;
  const y2 = to.y + to.h / 2;
  return `M${out} ${y1}H${x + turn}Q${x} ${y1} ${x} ${y1 - 10}V${y2 + 10}Q${x} ${y2} ${x + turn} ${y2}H${into}`;
}

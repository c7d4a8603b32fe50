// Rows of usage and counters as series for a chart. Pure.

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
export const SHOWN_MINUTES = 60;
const COUNTS = ["calls", "failed_calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "cost_micros"];
const MOST_SERIES = 6;

const withInput = (row) => ({ ...row, input: row.input_tokens + row.cache_read_tokens + row.cache_write_tokens });

/** Sums by a name, the dearest first. */
export function totals(rows, nameOf) {
  const sums = new Map();
  for (const row of rows) {
    const name = nameOf(row);
    const sum = sums.get(name) ?? { name, ...Object.fromEntries(COUNTS.map((key) => [key, 0])) };
    for (const key of COUNTS) sum[key] += row[key];
    sums.set(name, sum);
  }
  return [...sums.values()].map(withInput).sort((a, b) => b.cost_micros - a.cost_micros);
}

/** One series for each name, one value for each of the last `days` days: `{times, series: [{name, values}]}`. */
export function byDay(rows, days, nameOf, valueOf) {
  const today = Math.floor(Date.now() / DAY_MS);
  const times = Array.from({ length: days }, (_, index) => ((today - days + 1 + index) * DAY_MS) / 1_000);
  const series = new Map();
  for (const row of rows.map(withInput)) {
    const index = Math.floor(Date.parse(row.day) / DAY_MS) - today + days - 1;
    if (index < 0 || index >= days) continue;
    const name = nameOf(row);
    if (!series.has(name)) series.set(name, new Array(days).fill(0));
    series.get(name)[index] += valueOf(row);
  }
  const sorted = [...series].map(([name, values]) => ({ name, values, sum: values.reduce((a, b) => a + b, 0) })).sort((a, b) => b.sum - a.sum);
  const shown = sorted.slice(0, MOST_SERIES);
  const others = sorted.slice(MOST_SERIES);
  if (others.length > 0) shown.push({ name: "others", values: times.map((_, index) => others.reduce((total, { values }) => total + values[index], 0)) });
  return { times, series: shown };
}

/** Counters of the last minutes, over all agents. `names`: counter to what it is called. */
export function perMinute({ at, minutes }, names) {
  const counted = new Map(minutes.map((minute) => [Date.parse(minute.at), minute.agents]));
  const last = Math.floor(Date.parse(at) / MINUTE_MS) * MINUTE_MS;
  const starts = Array.from({ length: SHOWN_MINUTES }, (_, index) => last - (SHOWN_MINUTES - 1 - index) * MINUTE_MS);
  const times = starts.map((start) => start / 1_000);
  const series = Object.entries(names).map(([counter, name]) => ({
    name,
    values: starts.map((start) => (counted.get(start) ?? []).reduce((total, agent) => total + agent[counter], 0)),
  }));
  return { times, series };
}

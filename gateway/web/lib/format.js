// Numbers and times as people read them, in the browser's language.
const whole = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const shortTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayTime = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

const MICROS = 1_000_000;

export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const short = (value) => (value === null || value === undefined ? "–" : value < 10_000 ? whole.format(value) : compact.format(value));
export const rate = (value) => (value === null || value === undefined ? "–" : value >= 100 ? short(Math.round(value)) : value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(1));

/** Micro-dollars as dollars; small amounts with the digits that say something. */
export function cost(micros) {
  if (micros === null || micros === undefined) return "–";
  const dollars = micros / MICROS;
  const digits = dollars === 0 || dollars >= 1 ? 2 : dollars >= 0.01 ? 3 : 5;
  return `$${dollars.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined || Number.isNaN(milliseconds)) return "–";
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1_000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
  const seconds = Math.round(milliseconds / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}

export const between = (from, to) => (from && to ? new Date(to) - new Date(from) : null);

const sameDay = (a, b) => a.toDateString() === b.toDateString();

/** The time today, the day before. */
export function when(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  return sameDay(at, new Date()) ? shortTime.format(at) : day.format(at);
}

export function moment(iso) {
  if (!iso) return "–";
  const at = new Date(iso);
  return sameDay(at, new Date()) ? time.format(at) : dayTime.format(at);
}

export const tokens = (usage) =>
  usage ? (usage.input_tokens ?? 0) + (usage.cache_read_tokens ?? 0) + (usage.cache_write_tokens ?? 0) + (usage.output_tokens ?? 0) : 0;

export const words = (name) => (name ?? "").replaceAll("_", " ");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const sentence = (name) => capital(words(name));

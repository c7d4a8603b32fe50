// What went wrong, as the gateway says it (RFC 9457), or as the page sees it where the gateway says nothing.

export class Problem extends Error {
  constructor({ status = 0, code = "unknown", title = "Something went wrong", detail = "", errors = [], instance = "", retryAfter = null }) {
    super(detail || title);
    Object.assign(this, { status, code, title, detail, errors, instance, retryAfter });
  }

  /** Whether the same request can succeed later without anybody's doing. */
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export const unreachable = () =>
  new Problem({
    code: "unreachable",
    title: "The gateway does not answer",
    detail: "Nothing is lost. This page goes on by itself as soon as the gateway is back.",
  });

export async function problemOf(response) {
  const text = await response.text().catch(() => "");
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { detail: text.slice(0, 300) };
  }
  return new Problem({ title: response.statusText || `Status ${response.status}`, ...body, status: response.status, retryAfter });
}

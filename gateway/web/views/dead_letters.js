// Records that could not be processed: why, what they were, and how to send them again.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { request } from "../lib/api.js";
import { capital, count, moment, words } from "../lib/format.js";
import { link, route } from "../lib/router.js";
import { Problem } from "../lib/problem.js";
import { Empty, Loading, More, useAnswer, usePages } from "../parts/loading.js";
import { Filters } from "../parts/filters.js";
import { Json } from "../parts/json.js";
import { Notice, ProblemNotice } from "../parts/notice.js";
import { Page } from "../parts/page.js";

const CAUSES = ["not_json", "not_valid", "wrong_key", "too_large", "nothing_to_cancel", "nothing_to_approve", "not_an_approver", "nothing_to_answer", "no_such_agent", "not_quarantined", "not_in_log", "expired", "core_error"];
const EDITABLE = ["user-messages", "broadcasts"];
const PER_PAGE = 50;

export function DeadLetters() {
  const { argument: id } = route.value;
  return id ? html`<${DeadLetter} key=${id} id=${id} />` : html`<${List} />`;
}

function List() {
  const { query } = route.value;
  const { cause, topic, session_id: session } = query;
  const pages = usePages("/v1/dead-letters", { cause, topic, session_id: session, limit: PER_PAGE });
  const fields = [
    { name: "cause", label: "Cause", options: CAUSES.map((name) => [name, words(name)]) },
    { name: "topic", label: "Topic", placeholder: "user-messages" },
    { name: "session_id", label: "Session" },
  ];
  return html`<${Page} title="Dead letters" lead="Records that could not be processed, byte for byte, with the reason. What made them fail can be corrected, and the record sent again."
      aside=${html`<button class="button" type="button" onClick=${pages.again}>Refresh</button>`}>
    <${Filters} view="dead-letters" label="Find dead letters" fields=${fields} />
    <${ProblemNotice} problem=${pages.problem} />
    ${pages.items === null ? !pages.problem && html`<${Loading} />` : html`<section class="card" aria-label="Dead letters">
      ${pages.items.length === 0 ? html`<${Empty} title="No dead letters">Every record could be processed, or the filter fits none.<//>` : html`<ul class="rows">
        ${pages.items.map((letter) => html`<li key=${letter.id}><a class="row-link" href=${link("dead-letters", letter.id)}>
          <span class="row-head"><span class="pill bad">${words(letter.cause)}</span><span class="mono">${letter.id}</span><time class="muted small" datetime=${letter.at}>${moment(letter.at)}</time></span>
          <span>${capital(letter.error)}</span>
          <span class="muted small">refused by ${letter.processor}${letter.session_id ? ` · session ${letter.session_id}` : ""}</span>
        </a></li>`)}
      </ul>`}
      <${More} pages=${pages} />
    </section>`}
  <//>`;
}

const pathOf = (id) => `/v1/dead-letters/${id.split("/").map(encodeURIComponent).join("/")}`;

function DeadLetter({ id }) {
  const { data: letter, problem, again } = useAnswer(pathOf(id));
  const [result, setResult] = useState(null);
  return html`<${Page} title="Dead letter" lead=${html`<a href=${link("dead-letters")}>All dead letters</a> · <span class="mono">${id}</span>`}
      aside=${letter?.can_be_replayed && html`<${Replay} id=${id} letter=${letter} onDone=${(done) => { setResult(done); again(); }} />`}>
    <${ProblemNotice} problem=${problem} />
    ${result && html`<${Notice} kind="good" title="Sent again"><span>The record is on <span class="mono">${result.topic}</span> again, partition ${result.partition}, offset ${count(result.offset)}. If it fails again, it comes back as a new dead letter.</span>
      ${letter?.session_id && html`<a href=${link("chat", letter.session_id)}>Open the conversation</a>`}<//>`}
    ${letter ? html`<${Letter} letter=${letter} />` : !problem && html`<${Loading} />`}
  <//>`;
}

function Letter({ letter }) {
  return html`
    <section class="card padded stack" aria-label="Cause">
      <div class="row-head"><span class="pill bad">${words(letter.cause)}</span><span class="muted small">refused by ${letter.processor}, ${moment(letter.at)}</span></div>
      <p class="cause">${capital(letter.error)}</p>
    </section>
    <section class="card padded stack" aria-label="The record">
      <h2>The record</h2>
      <dl class="facts">
        <dt>Topic</dt><dd class="mono">${letter.topic}</dd>
        <dt>Place</dt><dd>partition ${letter.partition}, offset ${count(letter.offset)}</dd>
        <dt>Written</dt><dd>${moment(letter.record_at)}</dd>
        <dt>Key</dt><dd class="mono"><${Bytes} text=${letter.key} base64=${letter.key_base64} /></dd>
        ${letter.session_id && html`<dt>Session</dt><dd><a href=${link("sessions", letter.session_id)}>${letter.session_id}</a></dd>`}
      </dl>
      ${letter.headers.length > 0 && html`<div><h3>Headers</h3><dl class="facts">${letter.headers.map(([name, value], index) => html`<dt class="mono">${name}</dt><dd class="mono"><${Bytes} text=${value} base64=${letter.headers_base64[index][1]} /></dd>`)}</dl></div>`}
      <div><h3>Value${letter.bytes !== null ? `, ${count(letter.bytes)} bytes` : ""}${letter.value_base64 !== null ? ", in base64" : ""}</h3>${letter.value === null && letter.value_base64 === null
        ? html`<p class="muted">It is not here: there was none, or it was too large to be kept twice. The record itself is where it was, as long as its topic keeps it.</p>`
        : html`<${Json} value=${letter.value ?? letter.value_base64} label="Value" />`}</div>
    </section>`;
}

function Bytes({ text, base64 }) {
  if (text !== null && text !== undefined) return text;
  return base64 === null ? html`<span class="muted">none</span>` : html`${base64}<span class="muted"> in base64</span>`;
}

function Replay({ id, letter, onDone }) {
  const dialog = useRef(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const [value, setValue] = useState(letter.value);
  const editable = letter.value !== null && EDITABLE.some((topic) => letter.topic.endsWith(topic));
  useEffect(() => () => dialog.current?.close?.(), []);
  const replay = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const sent = await request(`${pathOf(id)}/replay`, { method: "POST", body: value === letter.value ? undefined : { value } });
      dialog.current.close();
      onDone(sent);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
    }
    setBusy(false);
  };
  return html`<button class="button primary" type="button" onClick=${() => { setProblem(null); dialog.current.showModal(); }}>Send again…</button>
    <dialog ref=${dialog} aria-labelledby="replay-title"><form method="dialog" onSubmit=${replay}>
      <h2 id="replay-title">Send this record again?</h2>
      <p>The same bytes go to <span class="mono">${letter.topic}</span>, with the same key and headers. Do it when what made the record fail was corrected; otherwise it fails again.</p>
      ${editable && html`<div class="field"><label for="replay-value">Value</label>
        <textarea id="replay-value" class="input mono" rows="6" spellcheck=${false} value=${value} onInput=${(event) => setValue(event.currentTarget.value)} aria-describedby="replay-value-hint"></textarea>
        <span id="replay-value-hint">It may be corrected here; a corrected one that would be refused is not sent.</span></div>`}
      <${ProblemNotice} problem=${problem} />
      <div class="actions"><button class="button" type="button" onClick=${() => dialog.current.close()}>Leave it</button>
        <button class="button primary" type="submit" disabled=${busy}>${busy ? "Sending…" : "Send again"}</button></div>
    </form></dialog>`;
}

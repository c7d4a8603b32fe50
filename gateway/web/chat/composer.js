// Where a message is written. A draft is kept for each conversation until it is sent.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { tab } from "../lib/storage.js";
import { Icon } from "../parts/icons.js";

const MAX_ROWS = 8;

/** `draft` names what is written; `onStop` is there while something can be stopped. */
export function Composer({ draft, agents, agent, onAgent, onSend, onStop, given }) {
  const [text, setText] = useState(tab.get(`draft.${draft}`) ?? "");
  const [stopping, setStopping] = useState(false);
  const field = useRef(null);
  useEffect(() => { setText(tab.get(`draft.${draft}`) ?? ""); }, [draft]);
  useEffect(() => {
    if (!given) return;
    write(given.text);
    field.current.focus();
  }, [given]);
  useEffect(() => { if (!onStop) setStopping(false); }, [onStop === null]);
  const write = (value) => {
    setText(value);
    if (value) tab.set(`draft.${draft}`, value);
    else tab.remove(`draft.${draft}`);
  };
  const submit = (event) => {
    event.preventDefault();
    const said = text.trim();
    if (!said) return;
    write("");
    onSend(said);
    field.current.focus();
  };
  const onKeyDown = (event) => {
    // Enter also ends the choice of a character in an input method.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const stop = () => {
    setStopping(true);
    onStop().catch(() => setStopping(false));
  };
  return html`<div class="composer"><form onSubmit=${submit} aria-label="Message">
    <label class="hidden-but-read" for="message">Your message. Enter sends it, Shift and Enter begin a new line.</label>
    <textarea id="message" ref=${field} rows=${Math.min(MAX_ROWS, text.split("\n").length)} placeholder="Write a message" value=${text}
      autocomplete="off" enterkeyhint="send" onInput=${(event) => write(event.currentTarget.value)} onKeyDown=${onKeyDown}></textarea>
    <div class="bar">
      <label class="agent"><span>Agent</span><select value=${agent} onChange=${(event) => onAgent(event.currentTarget.value)}>
        ${agents.map(({ name, description }) => html`<option value=${name} title=${description} selected=${name === agent}>${name}</option>`)}
      </select></label>
      <span class="hint" aria-hidden="true">Enter sends · Shift+Enter breaks the line</span>
      ${onStop && html`<button class="button" type="button" disabled=${stopping} onClick=${stop}><${Icon} name="stop" />${stopping ? "Stopping…" : "Stop"}</button>`}
      <button class="button primary" type="submit" disabled=${!text.trim()} aria-label="Send"><${Icon} name="send" /></button>
    </div>
  </form></div>`;
}

// Asks for a key, where the gateway wants one.
import { html, useState } from "../lib/html.js";
import { caller, signIn } from "../lib/api.js";
import { Wheel } from "../parts/icons.js";
import { ProblemNotice } from "../parts/notice.js";

export function SignIn() {
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const key = new FormData(event.currentTarget).get("key").trim();
    if (!key) return;
    setBusy(true);
    await signIn(key);
    setBusy(false);
  };
  return html`<main class="gate"><form class="card" onSubmit=${submit}>
    <span class="brand"><${Wheel} />Headrace</span>
    <h1>Sign in</h1>
    <p class="muted">This gateway lets nobody in without a key. An operator makes one with <code>headrace keys create</code>.</p>
    <${ProblemNotice} problem=${caller.value.problem} />
    <label class="field"><span>Key</span>
      <input class="input mono" name="key" type="password" placeholder="hr_…" autocomplete="off" spellcheck=${false} autofocus required /></label>
    <button class="button primary" type="submit" disabled=${busy}>${busy ? "Looking…" : "Sign in"}</button>
    <p class="small muted">The key stays in this tab until you sign out or close it.</p>
  </form></main>`;
}

// The frame around every view: brand, views, who is signed in, the theme.
import { html, signal } from "../lib/html.js";
import { caller, can, signOut } from "../lib/api.js";
import { link } from "../lib/router.js";
import { browser } from "../lib/storage.js";
import { Icon, Wheel } from "./icons.js";

/** Views in their order; a view whose scope the key lacks is not offered, nor one for operators to a tenant. */
export const VIEWS = [
  { name: "chat", label: "Chat", icon: "chat", scope: "sessions:read" },
  { name: "pipeline", label: "Pipeline", icon: "pipeline", scope: "stats:read", operators: true },
  { name: "sessions", label: "Sessions", icon: "sessions", scope: "sessions:read" },
  { name: "dead-letters", label: "Dead letters", phone: "Letters", icon: "letters", scope: "dead-letters:read" },
  { name: "audit", label: "Audit", icon: "audit", scope: "audit:read" },
  { name: "usage", label: "Usage", icon: "usage", scope: "stats:read" },
];

export const offered = () => VIEWS.filter((view) => can(view.scope) && !(view.operators && caller.value.me.tenant));

const theme = signal(browser.get("theme") ?? "system");

function choose(name) {
  theme.value = name;
  browser.set("theme", name);
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  dispatchEvent(new Event("themechange"));
}

function ThemeSwitch() {
  const themes = [["light", "Light", "sun"], ["system", "As the system", "screen"], ["dark", "Dark", "moon"]];
  return html`<div class="switch" role="group" aria-label="Theme">
    ${themes.map(([name, label, icon]) => html`<button type="button" aria-pressed=${String(theme.value === name)} aria-label=${label} title=${label} onClick=${() => choose(name)}><${Icon} name=${icon} /></button>`)}
  </div>`;
}

function Who() {
  const { me } = caller.value;
  if (me.is_open) return html`<div class="who"><strong>No key needed</strong><span>Open to anyone on this machine</span></div>`;
  return html`<div class="who"><strong>${me.name}</strong><span>${me.tenant ? `Tenant ${me.tenant}` : "Operator"}</span></div>`;
}

const SignOut = () => caller.value.me.is_open ? null : html`<button class="button quiet small" type="button" onClick=${() => signOut()}><${Icon} name="leave" />Sign out</button>`;

const Brand = () => html`<a class="brand" href="#/chat"><${Wheel} />Headrace</a>`;

/** `view` is the one that is shown. */
export function Shell({ view: at, children }) {
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the content</a>
    <div class="shell">
      <header class="phone-bar"><${Brand} /><div><${PhoneWho} /><${ThemeSwitch} /></div></header>
      <div class="side">
        <${Brand} />
        <nav aria-label="Views"><ul class="views">
          ${offered().map((view) => html`<li><a href=${link(view.name)} aria-current=${at === view.name ? "page" : null}><${Icon} name=${view.icon} /><span class=${view.phone ? "long" : ""}>${view.label}</span>${view.phone && html`<span class="brief">${view.phone}</span>`}</a></li>`)}
        </ul></nav>
        <div class="side-foot"><${Who} /><${SignOut} /><${ThemeSwitch} /></div>
      </div>
      <main class="stage" id="main" tabindex="-1">${children}</main>
    </div>`;
}

function PhoneWho() {
  return caller.value.me.is_open ? html`<span class="pill" title="Open to anyone on this machine">open<span class="hidden-but-read"> to anyone on this machine</span></span>` : html`<${SignOut} />`;
}

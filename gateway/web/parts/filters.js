// Filters of a list. They are in the address, so that a search can be kept and sent on.
import { html } from "../lib/html.js";
import { go, route } from "../lib/router.js";

/** `fields`: `{name, label, placeholder, options, type}`; applied when the form is sent or a choice is made. */
export function Filters({ view, fields, label }) {
  const { argument, query } = route.value;
  const apply = (form) => go(view, argument, Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()])), { replace: true });
  const isFiltered = fields.some(({ name }) => query[name]);
  return html`<form class="filters" role="search" aria-label=${label} key=${JSON.stringify(query)}
      onSubmit=${(event) => { event.preventDefault(); apply(event.currentTarget); }}>
    ${fields.map((field) => html`<label class="field"><span>${field.label}</span>
      ${field.options
        ? html`<select class="input" name=${field.name} onChange=${(event) => apply(event.currentTarget.form)}>
            ${[["", "any"], ...field.options].map(([value, text]) => html`<option value=${value} selected=${(query[field.name] ?? "") === value}>${text}</option>`)}
          </select>`
        : html`<input class="input" name=${field.name} type=${field.type ?? "text"} placeholder=${field.placeholder ?? ""} defaultValue=${query[field.name] ?? ""} autocomplete="off" spellcheck=${false} />`}
    </label>`)}
    <div class="actions">
      <button class="button" type="submit">Search</button>
      ${isFiltered && html`<button class="button quiet" type="button" onClick=${() => go(view, argument, {}, { replace: true })}>Clear</button>`}
    </div>
  </form>`;
}

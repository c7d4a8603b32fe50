// Storage may be switched off or full: the page then forgets, and works.

function attempt(action) {
  try {
    return action();
  } catch (error) {
    if (error instanceof DOMException) return null;
    throw error;
  }
}

const kept = (store) => ({
  get: (name) => attempt(() => store().getItem(`headrace.${name}`)),
  set: (name, value) => attempt(() => store().setItem(`headrace.${name}`, value)),
  remove: (name) => attempt(() => store().removeItem(`headrace.${name}`)),
  clear: () => attempt(() => store().clear()),
});

/** Until the tab is closed, and for this tab only. */
export const tab = kept(() => sessionStorage);
/** Until the browser's data is deleted. */
export const browser = kept(() => localStorage);

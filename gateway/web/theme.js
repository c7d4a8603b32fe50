// Loaded before the first paint, so that a chosen theme does not flash in from the other one.
"use strict";
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("headrace.theme");
  } catch {
    // Storage is switched off: the system's theme it is.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}

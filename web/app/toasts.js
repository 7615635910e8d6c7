// Errors: top right, red, gone after five seconds.

import { RoostError } from "../sdk/index.js";
import { h, icon, iconButton } from "./dom.js";

const SHOWN_MS = 5_000;
const SHOWN_MAX = 5;

const place = h("div.toasts", { role: "region", "aria-label": "Errors" });
document.body.append(place);

/** @param {unknown} error a RoostError is told by its meaning */
export function showError(error) {
  const text = error instanceof RoostError ? error.meaning : error instanceof Error ? error.message : String(error);
  const detail = error instanceof RoostError && error.code > 0 ? `${error.code} · ${error.message}` : null;
  const toast = h(
    "div.toast",
    { role: "alert" },
    icon("alert"),
    h("div", {}, h("p", {}, text), detail && h("p.detail", {}, detail)),
    iconButton("close", "Dismiss", () => toast.remove(), ".small"),
  );
  while (place.childElementCount >= SHOWN_MAX) place.firstElementChild?.remove();
  place.append(toast);
  // An open dialog covers the page; a popover shown later lies above it.
  if ("showPopover" in place) {
    place.setAttribute("popover", "manual");
    if (place.matches(":popover-open")) place.hidePopover();
    place.showPopover();
  }
  setTimeout(() => {
    toast.remove();
    if (place.childElementCount === 0 && place.matches(":popover-open")) place.hidePopover();
  }, SHOWN_MS);
}

/** Runs what a button does, and shows why it failed. @param {() => Promise<any>} act */
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    showError(error);
    return undefined;
  }
}

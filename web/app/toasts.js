// Errors: top right, red, gone after five seconds.

import { RoostError } from "../sdk/index.js";
import { h, icon, iconButton } from "./dom.js";

const SHOWN_MS = 5_000;
const SHOWN_MAX = 5;

const place = h("div.toasts", { role: "region", "aria-label": "Errors", popover: "manual" });
settleToasts();

/** Puts the errors where they can be seen and reached: everything beside an open dialog is inert. */
export function settleToasts() {
  const host = document.querySelector("dialog[open]") ?? document.body;
  if (place.parentElement !== host) host.append(place);
  if (!("showPopover" in place)) return; // older browsers: under the dialog's shade
  if (place.matches(":popover-open")) place.hidePopover();
  if (place.childElementCount > 0) place.showPopover(); // anew: above what was opened since
}

/** @param {unknown} error a RoostError is told by its meaning */
export function showError(error) {
  const text = error instanceof RoostError ? error.meaning : error instanceof Error ? error.message : String(error);
  const detail = error instanceof RoostError && error.code > 0 ? `${error.code} · ${error.message}` : null;
  const remove = () => {
    toast.remove();
    settleToasts();
  };
  const toast = h(
    "div.toast",
    { role: "alert" },
    icon("alert"),
    h("div", {}, h("p", {}, text), detail && h("p.detail", {}, detail)),
    iconButton("close", "Dismiss", remove, ".small"),
  );
  while (place.childElementCount >= SHOWN_MAX) place.firstElementChild?.remove();
  place.append(toast);
  settleToasts();
  setTimeout(remove, SHOWN_MS);
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

// The names entered on this browser, each with the token that makes it that user. A name without a token here is
// nobody yet: typing somebody else's name makes a new guest.

import { webStorage } from "../sdk/index.js";

/** @typedef {import("../sdk/identity.js").Identity} Identity */

const PREFIX = "roost.name.";
/** Longest name, in bytes of UTF-8; the server's limit. */
export const NAME_BYTES_MAX = 128;

export const kept = webStorage(() => localStorage);
/** Per tab: two windows of one browser can be two people. */
const tab = webStorage(() => sessionStorage);

/** @param {string} text */
export const tidy = (text) => text.normalize("NFC").trim().replace(/\s+/gu, " ");

/** @param {string} name */
export const nameBytes = (name) => new TextEncoder().encode(name).length;

/** @param {string} name @returns {Identity | null} */
export function known(name) {
  try {
    const identity = JSON.parse(kept.get(PREFIX + name) ?? "null");
    return typeof identity?.user === "string" && typeof identity?.token === "string" ? identity : null;
  } catch {
    return null;
  }
}

/** Names of this browser, the last used first. @returns {string[]} */
export function names() {
  const used = (/** @type {string} */ name) => /** @type {any} */ (known(name))?.used ?? 0;
  const all = kept.keys(PREFIX).map((key) => key.slice(PREFIX.length));
  return all.filter((name) => known(name)).sort((a, b) => used(b) - used(a));
}

/** @param {string} name as it was entered @param {Identity} identity */
export function keep(name, identity) {
  kept.set(PREFIX + name, JSON.stringify({ ...identity, used: Date.now() }));
}

/** Forgets the name and everything kept for its user. @param {string} name */
export function forget(name) {
  const user = known(name)?.user;
  kept.remove(PREFIX + name);
  if (!user) return;
  kept.remove(`roost.reached.${user}`);
  for (const key of kept.keys(`roost.outbox.${user}.`)) kept.remove(key);
}

/** The name this tab is in as; it survives a reload. */
export const current = () => tab.get("roost.current");

/** @param {string | null} name */
export function setCurrent(name) {
  if (name === null) tab.remove("roost.current");
  else tab.set("roost.current", name);
}

/** Names this tab to the server, so that two tabs of one user do not replace each other. */
export function device() {
  let id = tab.get("roost.device");
  if (!id) {
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    id = `web-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    tab.set("roost.device", id);
  }
  return id;
}

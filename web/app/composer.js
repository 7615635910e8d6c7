// Where one writes.

import { h, iconButton } from "./dom.js";
import { showError } from "./toasts.js";

/** The server's limit of a text. */
const TEXT_BYTES_MAX = 32 * 1024;
/** After this long without a key the other side is told that the typing stopped. */
const IDLE_MS = 5_000;

/** What was begun and not sent, by conversation, as long as the page lives. @type {Map<string, string>} */
const drafts = new Map();

export class Composer {
  #client;
  #conv;
  /** @type {any} */
  #idle = null;
  #text = h("textarea", {
    rows: 1,
    placeholder: "Write a message",
    "aria-label": "Message",
    enterkeyhint: "send",
    dir: "auto",
    oninput: () => this.#typed(),
    onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    onblur: () => this.#stopped(),
  });
  #send = iconButton("send", "Send", () => this.#say(), ".send");
  element = h("div.composer", {}, this.#text, this.#send);

  /** @param {import("../sdk/client.js").Client} client @param {string} conv */
  constructor(client, conv) {
    this.#client = client;
    this.#conv = conv;
    this.#text.value = drafts.get(conv) ?? "";
    queueMicrotask(() => this.#fit());
  }

  /** On a touch screen this would bring up the keyboard over what one came to read. */
  focus() {
    if (!matchMedia("(pointer: coarse)").matches) this.#text.focus();
  }

  end() {
    this.#stopped();
    if (this.#text.value) drafts.set(this.#conv, this.#text.value);
    else drafts.delete(this.#conv);
  }

  #fit() {
    const { style } = this.#text;
    style.height = "auto";
    style.height = `${Math.min(this.#text.scrollHeight, 180)}px`;
    this.#send.disabled = this.#text.value.trim() === "";
  }

  #typed() {
    this.#fit();
    clearTimeout(this.#idle);
    if (!this.#text.value) return this.#stopped();
    this.#client.typing(this.#conv, true);
    this.#idle = setTimeout(() => this.#stopped(), IDLE_MS);
  }

  #stopped() {
    clearTimeout(this.#idle);
    this.#client.typing(this.#conv, false);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#say();
  }

  #say() {
    const text = this.#text.value.trim();
    if (!text) return;
    if (new TextEncoder().encode(text).length > TEXT_BYTES_MAX) {
      return showError(`A message may have ${TEXT_BYTES_MAX / 1024} KiB at most.`);
    }
    if (!this.#client.say(this.#conv, text)) return showError("Too many messages wait to be sent.");
    this.#text.value = "";
    this.#fit();
    this.#stopped();
    this.#text.focus();
  }
}

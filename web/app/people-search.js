// Finds people by the beginning of their name; chooses one, or several.

import { avatar } from "./avatar.js";
import { fill, h, icon } from "./dom.js";
import { lastSeen, shortId } from "./format.js";
import { attempt } from "./toasts.js";

/** @typedef {import("../sdk/wire.js").User} User */

/** A search begins when the fingers rest this long. */
const REST_MS = 180;

export class PeopleSearch {
  #client;
  #skip;
  #many;
  #choose;
  /** @type {User[]} */
  chosen = [];
  /** @type {any} */
  #timer = null;
  #asked = 0;
  #input;
  #chips = h("div.chips");
  #found = h("ul.found", { "aria-label": "People found" });
  #note = h("p.dim", { role: "status" });
  element;

  /**
   * @param {import("../sdk/client.js").Client} client
   * @param {{ label: string, skip?: Set<string>, many?: boolean, choose?: (user: User) => void }} options
   */
  constructor(client, { label, skip = new Set(), many = false, choose = () => {} }) {
    this.#client = client;
    this.#skip = skip;
    this.#many = many;
    this.#choose = choose;
    this.#input = h("input", {
      type: "search",
      placeholder: "Name",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#typed(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    });
    this.element = h("div.people-search", {}, this.#chips, h("label.field", {}, h("span", {}, label), h("span.with-icon", {}, icon("search"), this.#input)), this.#note, this.#found);
  }

  focus() {
    this.#input.focus();
  }

  #typed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#search(), REST_MS);
  }

  async #search() {
    const prefix = this.#input.value.trim();
    const asked = ++this.#asked;
    if (!prefix) return fill(this.#found), fill(this.#note);
    const users = await attempt(() => this.#client.search(prefix));
    if (!users || asked !== this.#asked) return;
    const others = users.filter((/** @type {User} */ { user }) => user !== this.#client.me && !this.#skip.has(user));
    fill(this.#note, others.length === 0 && "Nobody found. People appear here once they have entered.");
    fill(this.#found, ...others.map((/** @type {User} */ user) => this.#row(user)));
  }

  /** @param {User} user */
  #row(user) {
    const name = user.name ?? user.user;
    const picked = this.chosen.some((other) => other.user === user.user);
    const seen = user.last_seen ? lastSeen(user.last_seen) : "";
    return h(
      "li",
      {},
      h(
        "button.row",
        { type: "button", "data-user": user.user, "aria-pressed": this.#many ? String(picked) : null, onclick: () => this.#pick(user) },
        avatar(user.user, name, { small: true }),
        h("span.who", {}, h("span.title", { dir: "auto" }, name), h("span.dim.id", {}, shortId(user.user))),
        h("span.dim.at", {}, picked ? "added" : seen),
      ),
    );
  }

  /** @param {User} user */
  #pick(user) {
    if (!this.#many) return this.#choose(user);
    const without = this.chosen.filter((other) => other.user !== user.user);
    this.chosen = without.length < this.chosen.length ? without : [...this.chosen, user];
    this.#drawChips();
    this.#input.value = "";
    fill(this.#found);
    this.#input.focus();
  }

  #drawChips() {
    fill(
      this.#chips,
      ...this.chosen.map((user) =>
        h("button.chip", { type: "button", "aria-label": `Take ${user.name} off`, onclick: () => this.#pick(user) }, user.name ?? user.user, icon("close")),
      ),
    );
  }

  /** Arrow keys walk the found; Enter takes the first. @param {KeyboardEvent} event */
  #key(event) {
    const first = this.#found.querySelector("button.row");
    if (!(first instanceof HTMLElement)) return;
    if (event.key === "ArrowDown") first.focus();
    else if (event.key === "Enter") first.click();
    else return;
    event.preventDefault();
  }
}

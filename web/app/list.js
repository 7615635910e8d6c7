// The list of conversations.

import { roomAvatar, title } from "./avatar.js";
import { fill, gathered, h, icon } from "./dom.js";
import { preview } from "./events.js";
import { when } from "./format.js";

/** Rows shown; the rest is found by a "Show more". */
const ROWS_STEP = 200;

export class List {
  #client;
  #choose;
  #start;
  /** @type {Map<string, { item: HTMLElement, shown: string }>} */
  #items = new Map();
  #shown = ROWS_STEP;
  /** @type {string | null} */
  #selected = null;
  #list = h("ul.rooms", { "aria-label": "Conversations", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) });
  #empty = h("div.empty-list", { hidden: true });
  #more = h("button.quiet.more", { type: "button", hidden: true, onclick: () => this.#grow() }, "Show more");
  element = h("div.list", {}, this.#list, this.#more, this.#empty);
  render = gathered(() => this.#render());

  /**
   * @param {import("../sdk/client.js").Client} client
   * @param {(room: import("../sdk/room.js").Room) => void} choose
   * @param {() => void} start opens the "new conversation" dialog
   */
  constructor(client, choose, start) {
    this.#client = client;
    this.#choose = choose;
    this.#start = start;
    for (const event of ["rooms", "typing", "synced"]) client.on(event, this.render);
    client.people.on("names", this.render);
    client.people.on("presence", this.render);
    this.#render();
  }

  /** @param {string | null} conv */
  select(conv) {
    this.#selected = conv;
    this.render();
  }

  /** @param {string} conv */
  focus(conv) {
    /** @type {HTMLElement | null | undefined} */ (this.#items.get(conv)?.item.querySelector("button"))?.focus();
  }

  #grow() {
    this.#shown += ROWS_STEP;
    this.#render();
  }

  #render() {
    const client = this.#client;
    const all = [...client.rooms.values()].filter((room) => room.kind !== "channel" && (!room.left || room.id === this.#selected));
    const rooms = all.sort((a, b) => b.at - a.at || (a.id < b.id ? -1 : 1)).slice(0, this.#shown);
    client.people.watch(rooms.flatMap((room) => (room.kind === "direct" && room.peer ? [room.peer] : [])));
    const keep = new Set(rooms.map((room) => room.id));
    for (const [id, { item }] of this.#items) {
      if (keep.has(id)) continue;
      item.remove();
      this.#items.delete(id);
    }
    const focused = document.activeElement;
    let place = /** @type {any} */ (this.#list.firstElementChild);
    for (const room of rooms) {
      const item = this.#row(room);
      if (item === place) place = place.nextElementSibling;
      else this.#list.insertBefore(item, place);
    }
    // A row that moved has lost the focus.
    if (focused instanceof HTMLElement && this.#list.contains(focused)) focused.focus({ preventScroll: true });
    this.#more.hidden = all.length <= this.#shown;
    this.#renderEmpty(all.length === 0);
  }

  /** @param {boolean} empty */
  #renderEmpty(empty) {
    this.#empty.hidden = !empty;
    if (!empty) return fill(this.#empty);
    if (!this.#client.synced) return fill(this.#empty, h("p.dim", {}, "Loading your conversations…"));
    fill(
      this.#empty,
      h("p", {}, "It is quiet here."),
      h("p.dim", {}, "Start a chat by searching for a person’s name."),
      h("button.primary", { type: "button", onclick: this.#start }, icon("plus"), "New conversation"),
    );
  }

  /** @param {import("../sdk/room.js").Room} room */
  #row(room) {
    const client = this.#client;
    const name = title(client, room);
    const typing = [...room.typing.keys()];
    const line = typing.length > 0 ? "typing…" : room.last ? preview(client, room, room.last) : "No messages yet";
    const online = room.peer && client.people.presence(room.peer)?.online;
    const at = room.last ? when(room.last.ts) : "";
    const selected = room.id === this.#selected;
    const shown = JSON.stringify([name, line, at, online, room.unread, selected, typing.length]);
    const known = this.#items.get(room.id);
    if (known?.shown === shown) return known.item;
    const item = known?.item ?? h("li", { "data-conv": room.id }, h("button.row", { type: "button", onclick: () => this.#choose(room) }));
    const button = /** @type {HTMLElement} */ (item.firstElementChild);
    button.setAttribute("aria-current", String(selected));
    fill(
      button,
      roomAvatar(client, room),
      h("span.who", {}, h("span.title", { dir: "auto" }, name), online && h("span.sr", {}, " (online)")),
      h("span.at", {}, at),
      h(`span.preview${typing.length > 0 ? ".typing-now" : ""}${room.unread > 0 ? "" : ".wide"}`, { dir: "auto" }, line),
      room.unread > 0 && h("span.badge", {}, room.unread > 999 ? "999+" : room.unread, h("span.sr", {}, " unread")),
    );
    this.#items.set(room.id, { item, shown });
    return item;
  }

  /** Arrow keys walk the list. @param {KeyboardEvent} event */
  #key(event) {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step === 0) return;
    const rows = [...this.#list.querySelectorAll("button.row")];
    const next = rows[rows.indexOf(/** @type {any} */ (document.activeElement)) + step];
    if (next instanceof HTMLElement) next.focus();
    event.preventDefault();
  }
}

// One conversation: its head, messages, and where one writes.

import { roomAvatar, title } from "./avatar.js";
import { Composer } from "./composer.js";
import { fill, gathered, h, iconButton } from "./dom.js";
import { lastSeen, plural } from "./format.js";
import { Messages } from "./messages.js";
import { Panel } from "./panel.js";

/** "Last seen" is told anew this often. */
const REFRESH_MS = 30_000;

export class Thread {
  #client;
  #room;
  /** @type {(() => void)[]} */
  #ends;
  /** @type {Panel | null} */
  #panel = null;
  #name = h("span.title", { dir: "auto" });
  #sub = h("span.sub");
  #picture = h("span.picture");
  #foot = h("div.foot");
  #composer;
  #messages;
  #details = h("button.head-title", { type: "button", "aria-expanded": "false", title: "Details", onclick: () => this.#togglePanel() });
  element;
  #render = gathered(() => this.#draw());

  /**
   * @param {import("../sdk/client.js").Client} client
   * @param {import("../sdk/room.js").Room} room
   * @param {() => void} leave back to the list
   */
  constructor(client, room, leave) {
    this.#client = client;
    this.#room = room;
    this.#messages = new Messages(client, room);
    this.#composer = new Composer(client, room.id);
    fill(this.#details, this.#picture, h("span.head-text", {}, this.#name, this.#sub));
    const head = h(
      "header.head",
      {},
      iconButton("back", "Back to the list", leave, ".back"),
      this.#details,
      iconButton("info", "Details", () => this.#togglePanel(), ".details"),
    );
    this.element = h(
      "section.thread",
      { "aria-label": "Conversation", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event, leave) },
      h("div.thread-main", {}, head, this.#messages.element, this.#foot),
    );
    const timer = setInterval(this.#render, REFRESH_MS);
    this.#ends = [
      ...["rooms", "typing", "members"].map((event) => client.on(event, this.#render)),
      client.on("synced", () => this.#load()),
      client.people.on("names", this.#render),
      client.people.on("presence", this.#render),
      () => clearInterval(timer),
    ];
    this.#load();
    this.#draw();
  }

  focus() {
    this.#composer.focus();
  }

  end() {
    for (const end of this.#ends) end();
    this.#panel?.end();
    this.#messages.end();
    this.#composer.end();
  }

  /** Members and marks as of now; offline the next sync asks again. */
  #load() {
    if (this.#client.state.name === "online" && !this.#room.left) this.#client.load(this.#room.id).catch(() => {});
  }

  #draw() {
    const room = this.#room;
    const sub = this.#subtitle();
    fill(this.#name, title(this.#client, room));
    fill(this.#sub, sub.text);
    this.#sub.classList.toggle("typing-now", sub.typing);
    fill(this.#picture, roomAvatar(this.#client, room));
    if (room.left) fill(this.#foot, h("p.left-note", {}, "You are no longer in this group."));
    else if (!this.#foot.contains(this.#composer.element)) fill(this.#foot, this.#composer.element);
  }

  #subtitle() {
    const { people } = this.#client;
    const room = this.#room;
    const typing = [...room.typing.keys()].map((user) => people.name(user));
    if (typing.length > 0) {
      const text = room.kind === "direct" ? "typing…" : typing.length > 2 ? `${typing.length} people are typing…` : `${typing.join(" and ")} ${typing.length > 1 ? "are" : "is"} typing…`;
      return { text, typing: true };
    }
    if (room.kind !== "direct") return { text: room.members ? plural(room.members.length, "member") : "group", typing: false };
    const presence = room.peer ? people.presence(room.peer) : undefined;
    if (!presence) return { text: "", typing: false }; // not connected, or not told yet
    return { text: presence.online ? "online" : lastSeen(presence.lastSeen), typing: false };
  }

  #togglePanel() {
    if (this.#panel) return this.#closePanel();
    this.#panel = new Panel(this.#client, this.#room, () => this.#closePanel());
    this.element.append(this.#panel.element);
    this.#details.setAttribute("aria-expanded", "true");
    this.#panel.focus();
  }

  #closePanel() {
    this.#panel?.end();
    this.#panel?.element.remove();
    this.#panel = null;
    this.#details.setAttribute("aria-expanded", "false");
    this.#details.focus();
  }

  /** Escape closes what is open: the panel, then the conversation. @param {KeyboardEvent} event @param {() => void} leave */
  #key(event, leave) {
    if (event.key !== "Escape" || event.isComposing) return;
    event.stopPropagation();
    if (this.#panel) this.#closePanel();
    else leave();
  }
}

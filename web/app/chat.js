// The chat of one user: list, conversation, status. Ends as a whole when the name is switched.

import { Client } from "../sdk/index.js";
import { avatar } from "./avatar.js";
import { newConversation, oneself } from "./dialogs.js";
import { bird, fill, gathered, h, iconButton } from "./dom.js";
import { List } from "./list.js";
import { device, keep, kept } from "./names.js";
import { Status } from "./status.js";
import { Thread } from "./thread.js";
import { showError } from "./toasts.js";

export class Chat {
  #client;
  #name;
  #acts;
  #list;
  #status;
  /** @type {Thread | null} */
  #thread = null;
  /** @type {string | null} */
  #conv = null;
  #nothing = h("section.nothing", {}, bird("bird big"), h("p.dim", {}, "Choose a conversation, or start a new one."));
  #me = h("button.me", { type: "button", onclick: () => this.#oneself() });
  element;
  /** @type {(() => void)[]} */
  #ends = [];

  /**
   * @param {string} name as it was entered
   * @param {import("../sdk/identity.js").Identity} identity
   * @param {{ leave: (why?: string) => void, forget: () => void, refused: (why: string) => void }} acts
   */
  constructor(name, identity, acts) {
    this.#name = name;
    this.#acts = acts;
    this.#client = new Client({ base: new URL("/", location.href).href, identity, device: device(), storage: kept });
    this.#status = new Status(this.#client);
    this.#list = new List(this.#client, (room) => this.#open(room), () => this.#new());
    this.element = h(
      "div.chat",
      {},
      this.#status.element,
      h(
        "nav.sidebar",
        { "aria-label": "Conversations" },
        h("header.head", {}, this.#me, iconButton("plus", "New conversation", () => this.#new(), ".new")),
        this.#list.element,
      ),
      this.#nothing,
    );
    this.#listen();
    this.#drawMe();
    this.#client.start();
  }

  /** Leaves the server; what was not sent yet stays kept. */
  end() {
    for (const end of this.#ends) end();
    this.#thread?.end();
    this.#status.end();
    this.#client.stop();
    this.element.remove();
    document.title = "Roost";
  }

  #listen() {
    const client = this.#client;
    const nudge = () => client.nudge();
    const flush = () => client.flush();
    const shown = () => (document.visibilityState === "visible" ? client.nudge() : client.flush());
    window.addEventListener("online", nudge);
    window.addEventListener("pagehide", flush);
    document.addEventListener("visibilitychange", shown);
    this.#ends.push(
      client.on("identity", (identity) => (keep(this.#name, identity), this.#drawMe())),
      client.on("rooms", gathered(() => this.#drawTitle())),
      client.on("error", showError),
      client.on("failed", (item) => showError(item.error)),
      client.on("state", (state) => this.#stateChanged(state)),
      () => window.removeEventListener("online", nudge),
      () => window.removeEventListener("pagehide", flush),
      () => document.removeEventListener("visibilitychange", shown),
    );
  }

  /** @param {import("../sdk/connection.js").ConnectionState} state */
  #stateChanged(state) {
    if (state.name !== "stopped" || !state.error) return;
    if (state.error.code >= 200 && state.error.code < 300) this.#acts.refused(state.error.meaning);
    else showError(state.error);
  }

  /** @param {import("../sdk/room.js").Room} room */
  #open(room) {
    if (this.#conv === room.id) return this.#thread?.focus();
    this.#close();
    this.#conv = room.id;
    this.#thread = new Thread(this.#client, room, () => this.#close(true));
    this.#nothing.replaceWith(this.#thread.element);
    this.element.classList.add("in-thread");
    this.#list.select(room.id);
    this.#thread.focus();
  }

  #close(back = false) {
    const conv = this.#conv;
    if (!this.#thread) return;
    this.#thread.end();
    this.#thread.element.replaceWith(this.#nothing);
    this.#thread = null;
    this.#conv = null;
    this.element.classList.remove("in-thread");
    this.#list.select(null);
    if (back && conv) this.#list.focus(conv);
  }

  #new() {
    newConversation(this.#client, (room) => this.#open(room));
  }

  #oneself() {
    oneself(this.#client, { leave: () => this.#acts.leave(), forget: () => this.#acts.forget() });
  }

  #drawMe() {
    const { user, name } = this.#client.identity;
    this.#me.setAttribute("aria-label", `You are ${name}`);
    fill(this.#me, avatar(user, name), h("span.title", { dir: "auto" }, name));
  }

  #drawTitle() {
    let unread = 0;
    for (const room of this.#client.rooms.values()) if (!room.left) unread += room.unread;
    document.title = unread > 0 ? `(${unread}) Roost` : "Roost";
  }
}

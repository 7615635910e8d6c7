// Details of a conversation: the person, or a group's name, members and roles.

import { avatar, title } from "./avatar.js";
import { carefulButton, fill, gathered, h, icon, iconButton } from "./dom.js";
import { lastSeen, plural, shortId } from "./format.js";
import { PeopleSearch } from "./people-search.js";
import { attempt } from "./toasts.js";

/** @typedef {import("../sdk/wire.js").Member} Member */

/** Members drawn; the server lists at most 512. */
const MEMBERS_DRAWN_MAX = 512;
/** @type {Record<string, number>} */
const RANK = { owner: 3, admin: 2, member: 1 };

export class Panel {
  #client;
  #room;
  /** @type {(() => void)[]} */
  #ends;
  #body = h("div.panel-body");
  #close;
  element;
  #adding = false;
  #renaming = false;
  #render = gathered(() => this.#draw());

  /**
   * @param {import("../sdk/client.js").Client} client
   * @param {import("../sdk/room.js").Room} room
   * @param {() => void} close
   */
  constructor(client, room, close) {
    this.#client = client;
    this.#room = room;
    this.#close = iconButton("close", "Close details", close);
    this.element = h(
      "aside.panel",
      { "aria-label": "Details" },
      h("header.head", {}, this.#close, h("h2", {}, room.kind === "direct" ? "Person" : "Group")),
      this.#body,
    );
    this.#ends = [
      client.on("members", (of) => of === room && this.#render()),
      client.people.on("names", this.#render),
      client.people.on("presence", this.#render),
    ];
    this.#draw();
  }

  focus() {
    this.#close.focus();
  }

  end() {
    for (const end of this.#ends) end();
  }

  #draw() {
    if (this.#adding || this.#renaming) return; // not under the fingers of somebody who types
    if (this.#room.kind === "direct") this.#drawPerson();
    else this.#drawGroup();
  }

  #drawPerson() {
    const { people } = this.#client;
    const user = this.#room.peer ?? "";
    const presence = people.presence(user);
    fill(
      this.#body,
      h("div.panel-face", {}, avatar(user, people.name(user)), h("h3", { dir: "auto" }, people.name(user))),
      h("p.dim", {}, presence?.online ? "online" : lastSeen(presence?.lastSeen ?? 0)),
      idLine("Id", user),
    );
  }

  #drawGroup() {
    const room = this.#room;
    const members = [...(room.members ?? [])].sort((a, b) => (RANK[b.role ?? ""] ?? 0) - (RANK[a.role ?? ""] ?? 0));
    const manages = (RANK[room.role ?? ""] ?? 0) >= RANK.admin && !room.left;
    this.#client.people.watch(members.slice(0, 100).map((member) => member.user));
    fill(
      this.#body,
      h(
        "div.panel-face",
        {},
        avatar(room.id, "", { group: true }),
        h("h3", { dir: "auto" }, title(this.#client, room), manages && iconButton("pencil", "Rename the group", () => this.#rename(), ".small")),
      ),
      idLine(room.open ? "Open group: this id lets anybody join" : "Group id", room.id),
      manages &&
        h(
          "label.switch",
          {},
          h("input", { type: "checkbox", checked: room.open, onchange: (/** @type {any} */ event) => this.#setOpen(event.target) }),
          "Anybody with the id may join",
        ),
      h("h4", {}, plural(members.length, "member")),
      manages && h("button.quiet", { type: "button", onclick: () => this.#add() }, icon("plus"), "Add people"),
      h("ul.members", {}, members.slice(0, MEMBERS_DRAWN_MAX).map((member) => this.#member(member))),
      !room.left &&
        carefulButton("Leave the group", "Really leave?", () => void attempt(() => this.#client.leave(room.id))),
    );
  }

  /** @param {Member} member */
  #member(member) {
    const { people, me } = this.#client;
    const name = people.name(member.user);
    const mine = RANK[this.#room.role ?? ""] ?? 0;
    const theirs = RANK[member.role ?? ""] ?? 1;
    const removes = member.user !== me && !this.#room.left && mine >= RANK.admin && mine > theirs;
    const ranks = removes && mine === RANK.owner;
    return h(
      "li",
      { "data-user": member.user },
      avatar(member.user, name, { small: true, online: people.presence(member.user)?.online }),
      h("span.who", {}, h("span", { dir: "auto" }, name), member.user === me && h("span.dim", {}, " (you)"), h("span.dim.id", {}, shortId(member.user))),
      member.role !== "member" && h("span.role", {}, member.role ?? ""),
      removes &&
        h(
          "span.acts",
          {},
          ranks && h("button.link", { type: "button", onclick: () => this.#setRole(member) }, member.role === "admin" ? "Make member" : "Make admin"),
          h("button.link.red", { type: "button", "aria-label": `Remove ${name}`, onclick: () => this.#remove(member) }, "Remove"),
        ),
    );
  }

  /** @param {Member} member */
  #setRole(member) {
    const role = member.role === "admin" ? "member" : "admin";
    void attempt(() => this.#client.members(this.#room.id, { roles: [{ user: member.user, role }] }));
  }

  /** @param {Member} member */
  #remove(member) {
    void attempt(() => this.#client.members(this.#room.id, { remove: [member.user] }));
  }

  /** @param {HTMLInputElement} box */
  async #setOpen(box) {
    if (!(await attempt(() => this.#client.update(this.#room.id, { open: box.checked })))) box.checked = this.#room.open;
  }

  #rename() {
    this.#renaming = true;
    const input = h("input", { "aria-label": "Group name", maxlength: 64, value: this.#room.name, dir: "auto" });
    const done = () => {
      this.#renaming = false;
      this.#draw();
    };
    const save = async () => {
      const name = input.value.trim();
      if (name && name !== this.#room.name) await attempt(() => this.#client.update(this.#room.id, { name }));
      done();
    };
    const form = h(
      "form.inline",
      {
        onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), save()),
        onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && (event.stopPropagation(), done()),
      },
      input,
      h("button.primary", { type: "submit" }, "Save"),
    );
    this.#body.querySelector("h3")?.replaceWith(form);
    input.select();
  }

  #add() {
    this.#adding = true;
    const done = () => {
      this.#adding = false;
      this.#draw();
    };
    const search = new PeopleSearch(this.#client, {
      label: "Add people by name",
      skip: new Set((this.#room.members ?? []).map((member) => member.user)),
      many: true,
    });
    const add = async () => {
      const users = search.chosen.map((user) => user.user);
      if (users.length > 0 && !(await attempt(() => this.#client.members(this.#room.id, { add: users })))) return;
      done();
    };
    fill(
      this.#body,
      h(
        "div.adding",
        { onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && (event.stopPropagation(), done()) },
        search.element,
        h("div.buttons", {}, h("button.quiet", { type: "button", onclick: done }, "Cancel"), h("button.primary", { type: "button", onclick: add }, "Add")),
      ),
    );
    search.focus();
  }
}

/** @param {string} label @param {string} id */
export function idLine(label, id) {
  const copied = h("span.dim", { role: "status" });
  const copy = async () => {
    if ((await attempt(async () => (await navigator.clipboard.writeText(id), true))) !== true) return;
    fill(copied, "copied");
    setTimeout(() => fill(copied), 1_500);
  };
  return h("div.id-line", {}, h("span.dim", {}, label), h("code", {}, id), iconButton("copy", "Copy the id", copy, ".small"), copied);
}

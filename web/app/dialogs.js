// The dialogs: a new conversation, and oneself. Native <dialog>: Escape closes, the focus stays inside and returns.

import { avatar } from "./avatar.js";
import { carefulButton, fill, h, icon, iconButton } from "./dom.js";
import { idLine } from "./panel.js";
import { PeopleSearch } from "./people-search.js";
import { attempt, settleToasts, showError } from "./toasts.js";

/** @param {string} label @param {...any} children @returns {HTMLDialogElement} */
function dialog(label, ...children) {
  const element = h(
    "dialog",
    { "aria-label": label, onclose: () => (settleToasts(), element.remove()) },
    h("header.head", {}, h("h2", {}, label), iconButton("close", "Close", () => element.close())),
    ...children,
  );
  // A click beside it closes it.
  element.addEventListener("click", (/** @type {Event} */ event) => event.target === element && element.close());
  document.body.append(element);
  element.showModal();
  return element;
}

/**
 * @param {import("../sdk/client.js").Client} client
 * @param {(room: import("../sdk/room.js").Room) => void} open
 */
export function newConversation(client, open) {
  const content = h("div.dialog-body", { role: "tabpanel" });
  const box = dialog("New conversation");
  /** @param {() => Promise<import("../sdk/room.js").Room>} make */
  const make = async (make) => {
    const room = await attempt(make);
    if (!room) return;
    box.close();
    open(room);
  };
  /** @type {[label: string, show: () => void][]} */
  const kinds = [
    ["Person", () => person(client, content, make)],
    ["Group", () => group(client, content, make)],
    ["Join", () => join(client, content, make)],
  ];
  const tabs = kinds.map(([label, show], place) =>
    h("button", { type: "button", role: "tab", "aria-selected": "false", onclick: () => choose(place) }, label),
  );
  /** @param {number} place */
  const choose = (place) => {
    tabs.forEach((tab, other) => tab.setAttribute("aria-selected", String(place === other)));
    kinds[place][1]();
  };
  const bar = h("div.tabs", { role: "tablist", "aria-label": "Kind" }, tabs);
  bar.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const next = tabs[tabs.indexOf(/** @type {any} */ (document.activeElement)) + step];
    if (step !== 0 && next) next.focus();
  });
  box.append(bar, content);
  choose(0);
}

/** @typedef {(make: () => Promise<import("../sdk/room.js").Room>) => Promise<void>} Make */

/** @param {import("../sdk/client.js").Client} client @param {Element} place @param {Make} make */
function person(client, place, make) {
  const search = new PeopleSearch(client, { label: "Whom do you want to write to?", choose: (user) => void make(() => client.direct(user.user)) });
  fill(place, search.element);
  search.focus();
}

/** @param {import("../sdk/client.js").Client} client @param {Element} place @param {Make} make */
function group(client, place, make) {
  const name = h("input", { maxlength: 64, placeholder: "Group name", required: true, dir: "auto" });
  const open = h("input", { type: "checkbox" });
  const search = new PeopleSearch(client, { label: "Who is in it?", many: true });
  const create = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!name.value.trim()) return showError("A group needs a name."), name.focus();
    void make(() => client.group(name.value.trim(), search.chosen.map((user) => user.user), open.checked));
  };
  fill(
    place,
    h(
      "form.stack",
      { onsubmit: create, novalidate: true },
      h("label.field", {}, h("span", {}, "Name"), name),
      search.element,
      h("label.switch", {}, open, "Anybody with the id may join"),
      h("button.primary", { type: "submit" }, "Create group"),
    ),
  );
  name.focus();
}

/** @param {import("../sdk/client.js").Client} client @param {Element} place @param {Make} make */
function join(client, place, make) {
  const id = h("input", { placeholder: "c_…", autocomplete: "off", spellcheck: "false", "aria-label": "Group id" });
  const go = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (id.value.trim()) void make(() => client.join(id.value.trim()));
  };
  fill(
    place,
    h(
      "form.stack",
      { onsubmit: go },
      h("p.dim", {}, "An open group can be joined by its id. Ask somebody who is in it: it stands under the group’s details."),
      h("label.field", {}, h("span", {}, "Group id"), id),
      h("button.primary", { type: "submit" }, "Join"),
    ),
  );
  id.focus();
}

/**
 * @param {import("../sdk/client.js").Client} client
 * @param {{ leave: () => void, forget: () => void }} acts
 */
export function oneself(client, { leave, forget }) {
  const { user, name } = client.identity;
  const box = dialog(
    "You",
    h(
      "div.dialog-body",
      {},
      h("div.panel-face", {}, avatar(user, name), h("h3", { dir: "auto" }, name)),
      idLine("Your id", user),
      h("p.dim", {}, "This browser remembers you by a token. Enter the same name here again and your conversations are back."),
      h("button.primary", { type: "button", onclick: () => (box.close(), leave()) }, icon("swap"), "Switch name"),
      carefulButton("Forget this name here", "Its history will be out of reach. Forget?", () => (box.close(), forget())),
    ),
  );
}

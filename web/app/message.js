// One entry, drawn.

import { avatar } from "./avatar.js";
import { fill, h, icon } from "./dom.js";
import { eventText } from "./events.js";
import { day, links, onlyEmoji, sameDay, time } from "./format.js";

/** @typedef {import("../sdk/wire.js").Entry} Entry */
/** @typedef {import("../sdk/client.js").Client} Client */
/** @typedef {import("../sdk/room.js").Room} Room */
/** @typedef {"queued" | "sent" | "delivered" | "read" | "failed"} Tick */

/** Messages of one person closer than this stand together. */
const TOGETHER_MS = 5 * 60_000;

/** @type {Record<Tick, [icon: string, label: string]>} */
const TICKS = {
  queued: ["clock", "Waiting to be sent"],
  sent: ["sent", "Sent"],
  delivered: ["delivered", "Delivered"],
  read: ["delivered", "Read"],
  failed: ["alert", "Not sent"],
};

/** @param {Element} place a span.ticks @param {Tick} tick */
export function setTick(place, tick) {
  if (place.getAttribute("data-tick") === tick) return;
  const [name, label] = TICKS[tick];
  place.setAttribute("data-tick", tick);
  place.setAttribute("title", label);
  fill(place, icon(name), h("span.sr", {}, label));
}

/** @param {string} text */
function textNodes(text) {
  return links(text).map((part) =>
    typeof part === "string" ? part : h("a", { href: part.href, rel: "noopener noreferrer", target: "_blank" }, part.label),
  );
}

/** @param {string} text */
function textElement(text) {
  return h(`div.text${onlyEmoji(text) ? ".jumbo" : ""}`, { dir: "auto" }, textNodes(text));
}

/** @param {number} ts */
const stamp = (ts) => h("time", { datetime: new Date(ts).toISOString() }, time(ts));

/**
 * @param {Client} client
 * @param {Room} room
 * @param {Entry} entry
 * @param {Entry | undefined} before the entry before it, if held
 * @param {{ tick: Tick, unreadFrom: number }} look `unreadFrom`: a line stands above this seq; 0 for none
 */
export function entryElement(client, room, entry, before, look) {
  const newDay = !before || !sameDay(before.ts, entry.ts);
  const line = entry.seq === look.unreadFrom;
  const item = h("li", { "data-seq": entry.seq });
  if (newDay) item.append(h("div.day", {}, h("span", {}, day(entry.ts))));
  if (line) item.append(h("div.unread-line", {}, h("span", {}, "New messages")));
  if (entry.body?.event) {
    item.append(h("div.event", {}, eventText(client, entry.from, entry.body.event)));
    return item;
  }
  const own = entry.from === client.me;
  const first = newDay || line || !before || before.from !== entry.from || !!before.body?.event || entry.ts - before.ts > TOGETHER_MS;
  const inGroup = room.kind === "group" && !own;
  const name = client.people.name(entry.from);
  const ticks = own ? h("span.ticks") : null;
  if (ticks) setTick(ticks, look.tick);
  item.append(
    h(
      `div.message${own ? ".own" : ""}${first ? ".first" : ""}`,
      {},
      inGroup && (first ? avatar(entry.from, name, { small: true }) : h("span.avatar-gap")),
      h(
        "div.bubble",
        {},
        inGroup && first && h("div.author", { dir: "auto" }, name),
        !inGroup && h("span.sr", {}, own ? "You: " : `${name}: `),
        textElement(entry.body?.text ?? ""),
        h("span.meta", {}, stamp(entry.ts), ticks),
      ),
    ),
  );
  return item;
}

/**
 * A message of the outbox.
 * @param {import("../sdk/outbox.js").Item} pending
 * @param {{ retry: () => void, discard: () => void }} acts
 */
export function pendingElement(pending, acts) {
  const ticks = h("span.ticks");
  setTick(ticks, pending.state === "failed" ? "failed" : pending.state === "sent" ? "sent" : "queued");
  return h(
    "li",
    { "data-cmid": pending.cmid },
    h(
      `div.message.own${pending.state === "failed" ? ".failed" : ""}`,
      {},
      h("div.bubble", {}, textElement(pending.body.text ?? ""), h("span.meta", {}, stamp(pending.at), ticks)),
    ),
    pending.state === "failed" &&
      h(
        "div.failed-why",
        {},
        h("span", {}, pending.error?.meaning ?? "Not sent."),
        h("button.link", { type: "button", onclick: acts.retry }, "Try again"),
        h("button.link", { type: "button", onclick: acts.discard }, "Delete"),
      ),
  );
}

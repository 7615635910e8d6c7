import { h, icon } from "./dom.js";
import { hue, initials } from "./format.js";

/**
 * @param {string} id gives the colour
 * @param {string} name gives the letters
 * @param {{ group?: boolean, online?: boolean, small?: boolean }} [look]
 */
export function avatar(id, name, look = {}) {
  return h(
    `span.avatar.${hue(id)}${look.small ? ".small" : ""}${look.group ? ".group" : ""}`,
    { "aria-hidden": "true" },
    look.group ? icon("group") : initials(name),
    look.online && h("span.dot"),
  );
}

/**
 * The title of a conversation.
 * @param {import("../sdk/client.js").Client} client
 * @param {import("../sdk/room.js").Room} room
 */
export function title(client, room) {
  if (room.kind === "direct") return room.peer ? client.people.name(room.peer) : "…";
  return room.name || "Unnamed group";
}

/**
 * @param {import("../sdk/client.js").Client} client
 * @param {import("../sdk/room.js").Room} room
 */
export function roomAvatar(client, room) {
  if (room.kind !== "direct") return avatar(room.id, "", { group: true });
  const peer = room.peer ?? room.id;
  return avatar(peer, title(client, room), { online: client.people.presence(peer)?.online });
}

// Membership events in words.

/**
 * @param {import("../sdk/client.js").Client} client
 * @param {string} from
 * @param {import("../sdk/wire.js").Event} event
 */
export function eventText(client, from, event) {
  const who = (/** @type {string} */ user) => (user === client.me ? "you" : client.people.name(user));
  const actor = capital(who(from));
  const users = event.users ?? [];
  const others = users.filter((user) => user !== from);
  const list = joined(others.map(who));
  switch (event.kind) {
    case "added":
      return others.length > 0 ? `${actor} added ${list}` : `${actor} created the group`;
    case "removed":
      return others.length > 0 ? `${actor} removed ${list}` : `${actor} left`;
    case "joined":
      return `${capital(who(users[0] ?? from))} joined`;
    case "left":
      return `${capital(who(users[0] ?? from))} left`;
    case "renamed":
      return `${actor} renamed the group to “${event.name ?? ""}”`;
    case "role_changed": {
      const subject = joined(users.map(who));
      const role = event.role === "owner" ? "the owner" : event.role === "admin" ? "an admin" : "a member";
      return others.length > 0 ? `${actor} made ${subject} ${role}` : `${capital(subject || actor)} became ${role}`;
    }
    default:
      return "The group changed";
  }
}

/** @param {string} text */
const capital = (text) => (text === "you" ? "You" : text);

/** @param {string[]} words */
function joined(words) {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/**
 * One line for the list and the live region.
 * @param {import("../sdk/client.js").Client} client
 * @param {import("../sdk/room.js").Room} room
 * @param {import("../sdk/wire.js").Entry} entry
 */
export function preview(client, room, entry) {
  if (entry.body?.event) return eventText(client, entry.from, entry.body.event);
  const text = (entry.body?.text ?? "").slice(0, 200).replace(/\s+/gu, " ");
  if (entry.from === client.me) return `You: ${text}`;
  return room.kind === "direct" ? text : `${client.people.name(entry.from)}: ${text}`;
}

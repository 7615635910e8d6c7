// The shapes of the JSON form (sub-protocol roost.v1.json), as types only. wire/PROTOCOL.md explains them.
// A server may leave out fields that hold their default, so everything but the ids is optional to a reader.

/**
 * @typedef {"direct" | "group" | "channel"} Kind
 * @typedef {"owner" | "admin" | "member"} Role
 * @typedef {"added" | "removed" | "joined" | "left" | "renamed" | "role_changed"} EventKind
 */

/** @typedef {{ kind: EventKind, users?: string[], name?: string, role?: Role }} Event What happened to a conversation. */
/** @typedef {{ text?: string, event?: Event }} Body */
/** @typedef {{ conv: string, seq: number, from: string, cmid?: string, ts: number, body?: Body }} Entry */
/** @typedef {{ conv: string, seq: number, ts: number, dup?: boolean }} Sent */
/** @typedef {{ user: string, role?: Role, name?: string, delivered?: number, read?: number }} Member */
/** @typedef {{ conv: string, kind: Kind, name?: string, head?: number, members?: Member[], open?: boolean }} Conversation */
/**
 * @typedef {object} Row One conversation in the user's index.
 * @property {string} conv
 * @property {Kind} [kind]
 * @property {string} [name]
 * @property {number} [head]
 * @property {number} [read]
 * @property {number} [delivered]
 * @property {number} [unread]
 * @property {Entry} [last]
 * @property {Role} [role]
 * @property {Member} [peer]
 * @property {boolean} [left]
 */
/** @typedef {{ rows?: Row[], sync?: string, more?: boolean }} Changed */
/** @typedef {{ conv: string, entries?: Entry[], head?: number }} Page */
/** @typedef {{ conv: string, user: string, delivered?: number, read?: number }} Receipt */
/** @typedef {{ conv: string, user?: string, on?: boolean }} Typing */
/** @typedef {{ user: string, online?: boolean, last_seen?: number }} UserPresence */
/** @typedef {{ user: string, name?: string, last_seen?: number }} User */
/** @typedef {{ code?: number, message?: string, retryable?: boolean, retry_after_ms?: number }} WireError */
/** @typedef {{ reason?: string, deadline_ms?: number, slot_ms?: number, urls?: string[] }} Goaway */
/** @typedef {{ frame_bytes?: number, commands_in_flight?: number, sends_per_second?: number, text_bytes?: number, members?: number }} Limits */
/**
 * @typedef {object} Welcome
 * @property {string} user
 * @property {string} device
 * @property {string} session
 * @property {string} [token]
 * @property {number} [expires]
 * @property {number} [heartbeat_ms]
 * @property {boolean} [fresh]
 * @property {string} [sync]
 * @property {Limits} [limits]
 * @property {string} [name]
 */
/**
 * @typedef {object} Frame One message of the socket: a rid (absent on pushes) and one body by its name.
 * @property {number} [rid]
 * @property {{ node?: string, protocol?: string, connect_within_ms?: number }} [hello]
 * @property {Welcome} [welcome]
 * @property {{}} [pong]
 * @property {Goaway} [goaway]
 * @property {{}} [ok]
 * @property {WireError} [error]
 * @property {Sent} [sent]
 * @property {Entry} [entry]
 * @property {Receipt} [receipt]
 * @property {Typing} [typing]
 * @property {{ users?: UserPresence[] }} [presence]
 * @property {Conversation} [conversation]
 * @property {Changed} [changed]
 * @property {Page} [page]
 * @property {{ users?: User[] }} [users]
 */

export {};

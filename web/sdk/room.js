// What this client knows of one conversation.

import { Log } from "./log.js";

/** @typedef {import("./wire.js").Entry} Entry */
/** @typedef {{ delivered: number, read: number }} Reached */

/** A TYPING that is not repeated is over by then. */
export const TYPING_MS = 6_000;

export class Room {
  /** @type {import("./wire.js").Kind} */
  kind = "direct";
  /** The group's own name; "" for a direct conversation. */
  name = "";
  /** @type {import("./wire.js").Role | undefined} */
  role;
  open = false;
  unread = 0;
  /** @type {Entry | undefined} */
  last;
  /** Direct conversations: the other user. @type {string | undefined} */
  peer;
  /** Null until asked for by `Client.load`. @type {import("./wire.js").Member[] | null} */
  members = null;
  /** The user is no longer a member. */
  left = false;
  /** How far the others are. @type {Map<string, Reached>} */
  reached = new Map();
  /** Who types, and until when that holds. @type {Map<string, any>} */
  typing = new Map();

  /**
   * @param {string} id
   * @param {number} since when it became known, in ms since the epoch: sorts conversations without a message
   * @param {Log} log
   */
  constructor(id, since, log) {
    this.id = id;
    this.since = since;
    this.log = log;
  }

  /** When something happened last, for sorting. */
  get at() {
    return this.last?.ts ?? this.since;
  }

  /** Marks only rise. @param {string} user @param {number | undefined} delivered @param {number | undefined} read */
  reach(user, delivered, read) {
    const now = this.reached.get(user) ?? { delivered: 0, read: 0 };
    now.read = Math.max(now.read, read ?? 0);
    now.delivered = Math.max(now.delivered, delivered ?? 0, now.read);
    this.reached.set(user, now);
  }

  /**
   * How far everybody but `me` is: a message up to there is delivered or read.
   * @param {string} me
   * @returns {Reached}
   */
  everybody(me) {
    const users = this.kind === "direct" ? [this.peer ?? ""] : (this.members ?? []).map((member) => member.user);
    const others = users.filter((user) => user !== me).map((user) => this.reached.get(user));
    if (others.length === 0) return { delivered: 0, read: 0 };
    return {
      delivered: Math.min(...others.map((reached) => reached?.delivered ?? 0)),
      read: Math.min(...others.map((reached) => reached?.read ?? 0)),
    };
  }
}

// Names and presence of the people this client has to do with.

import { RoostError } from "./codes.js";
import { Emitter } from "./emitter.js";

/** The server's limit of users one session may watch. */
const WATCHES_MAX = 512;
/** Lookups of unknown names at a time. */
const LOOKUPS_MAX = 8;

/** @typedef {{ online: boolean, lastSeen: number }} Presence `lastSeen` in ms since the epoch, 0 if unknown */

/** Events: `names` (), `presence` (). */
export class People extends Emitter {
  #request;
  #later;
  /** @type {Map<string, string>} */
  #names = new Map();
  /** @type {Map<string, Presence>} */
  #presence = new Map();
  /** @type {Set<string>} */
  #watched = new Set();
  /** @type {Set<string>} */
  #wanted = new Set();
  /** @type {Set<string>} asked before: an unknown id is not asked for again and again */
  #asked = new Set();
  #lookups = 0;

  /**
   * @param {(body: object) => Promise<import("./wire.js").Frame>} request
   * @param {(run: () => void, ms: number) => void} later runs it after a pause of that long at least, if connected then
   */
  constructor(request, later) {
    super();
    this.#request = request;
    this.#later = later;
  }

  /**
   * The display name, or a short form of the id until it is known; asks for it once.
   * @param {string} user
   */
  name(user) {
    const name = this.#names.get(user);
    if (name) return name;
    if (!this.#asked.has(user)) {
      this.#asked.add(user);
      this.#wanted.add(user);
      queueMicrotask(() => this.#lookup());
    }
    return user.length > 10 ? `${user.slice(0, 8)}…` : user;
  }

  /** @param {string | undefined} user @param {string | undefined} name */
  learn(user, name) {
    if (!user || !name || this.#names.get(user) === name) return;
    this.#names.set(user, name);
    this.emit("names");
  }

  /** @param {string} user @returns {Presence | undefined} undefined: not watched, or not told yet */
  presence(user) {
    return this.#presence.get(user);
  }

  /** Watches these from now on, up to the server's limit. @param {string[]} users */
  watch(users) {
    const fresh = users.filter((user) => !this.#watched.has(user)).slice(0, WATCHES_MAX - this.#watched.size);
    for (const user of fresh) this.#watched.add(user);
    if (fresh.length > 0) this.#ask(fresh);
  }

  /** A new session watches nobody yet. */
  again() {
    if (this.#watched.size > 0) this.#ask([...this.#watched]);
    this.#lookup();
  }

  /** Not connected: nobody's presence is known. */
  unknown() {
    if (this.#presence.size === 0) return;
    this.#presence.clear();
    this.emit("presence");
  }

  /** @param {import("./wire.js").UserPresence[] | undefined} users */
  heard(users) {
    for (const { user, online, last_seen } of users ?? []) {
      this.#presence.set(user, { online: online ?? false, lastSeen: last_seen ?? 0 });
    }
    this.emit("presence");
  }

  /** @param {string[]} users */
  async #ask(users) {
    try {
      const frame = await this.#request({ watch: { users } });
      this.heard(frame.presence?.users);
    } catch (error) {
      // A connection that was lost is followed by one that asks again.
      const refused = error instanceof RoostError && error.retryable && !error.outcomeUnknown;
      if (refused) this.#later(() => this.#ask(users), error.retryAfterMs);
    }
  }

  async #lookup() {
    for (const user of this.#wanted) {
      if (this.#lookups >= LOOKUPS_MAX) return;
      this.#wanted.delete(user);
      if (this.#names.has(user)) continue;
      this.#lookups += 1;
      try {
        const frame = await this.#request({ search: { prefix: user, limit: 1 } });
        for (const found of frame.users?.users ?? []) this.learn(found.user, found.name);
      } catch {
        this.#asked.delete(user);
      } finally {
        this.#lookups -= 1;
      }
    }
  }
}

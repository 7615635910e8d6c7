// How far the others were when this installation last heard, kept over a reload: the server tells a receipt when it
// happens and not again. Marks only rise, so what is kept is never wrong, only perhaps behind.

/** Conversations remembered, those heard of last. */
const CONVERSATIONS_MAX = 200;
const GATHER_MS = 1_000;

/** @typedef {Map<string, import("./room.js").Reached>} ByUser */

export class Reached {
  #env;
  #storage;
  #key;
  /** The one heard of last is the last. @type {Map<string, ByUser>} */
  #byConv = new Map();
  /** @type {any} */
  #timer = null;

  /**
   * @param {import("./env.js").Env} env
   * @param {import("./storage.js").Storage} storage
   * @param {string} user
   */
  constructor(env, storage, user) {
    this.#env = env;
    this.#storage = storage;
    this.#key = `roost.reached.${user}`;
    try {
      for (const [conv, users] of JSON.parse(storage.get(this.#key) ?? "[]")) {
        this.#byConv.set(conv, new Map(users.map((/** @type {[string, number, number]} */ [user, delivered, read]) => [user, { delivered, read }])));
      }
    } catch {
      storage.remove(this.#key);
    }
  }

  /** What is known of a conversation. @param {string} conv @returns {ByUser} */
  of(conv) {
    return this.#byConv.get(conv) ?? new Map();
  }

  /** Keeps it, a moment later. @param {string} conv @param {ByUser} byUser */
  keep(conv, byUser) {
    this.#byConv.delete(conv);
    this.#byConv.set(conv, byUser);
    for (const oldest of this.#byConv.keys()) {
      if (this.#byConv.size <= CONVERSATIONS_MAX) break;
      this.#byConv.delete(oldest);
    }
    this.#timer ??= this.#env.setTimer(() => this.#write(), GATHER_MS);
  }

  /** Writes what waits. */
  stop() {
    if (this.#timer === null) return;
    this.#env.clearTimer(this.#timer);
    this.#write();
  }

  #write() {
    this.#timer = null;
    const list = [...this.#byConv].map(([conv, byUser]) => [conv, [...byUser].map(([user, { delivered, read }]) => [user, delivered, read])]);
    this.#storage.set(this.#key, JSON.stringify(list));
  }
}

// What the user has said and the server has not yet acknowledged. Kept in storage, so that a closed page or a crash
// loses nothing; resent with the same cmid, so that nothing arrives twice.

import { RoostError } from "./codes.js";
import { Emitter } from "./emitter.js";
import { fullJitter, uuidv7 } from "./env.js";

/** Unacknowledged messages of one user on this installation. */
export const OUTBOX_ITEMS_MAX = 500;
const RETRY_BASE_MS = 500;
const RETRY_CAP_MS = 15_000;

/**
 * @typedef {object} Item
 * @property {string} cmid
 * @property {string} conv
 * @property {import("./wire.js").Body} body
 * @property {number} attempt above 0: an earlier try may have succeeded
 * @property {number} [seen] the last seq known when it was first sent; absent: it never was
 * @property {number} at when it was said, in ms since the epoch
 * @property {"queued" | "sending" | "sent" | "failed"} state "sent": acknowledged, not yet in the log; "failed": refused for good
 * @property {RoostError} [error] why it failed
 */

/** Events: `changed` (conv), `failed` (Item), `full` (). */
export class Outbox extends Emitter {
  #env;
  #storage;
  #prefix;
  #send;
  #seenOf;
  /** One lane per conversation keeps its order; lanes do not wait for each other. @type {Map<string, Item[]>} */
  #lanes = new Map();
  /** @type {Set<string>} lanes with a send under way or a retry due */
  #busy = new Set();
  /** @type {Set<any>} */
  #timers = new Set();
  #open = false;

  /**
   * @param {object} options
   * @param {import("./env.js").Env} options.env
   * @param {import("./storage.js").Storage} options.storage
   * @param {string} options.user
   * @param {(item: Item) => Promise<import("./wire.js").Sent>} options.send
   * @param {(conv: string) => number} options.seenOf the last seq known of a conversation
   */
  constructor({ env, storage, user, send, seenOf }) {
    super();
    this.#env = env;
    this.#storage = storage;
    this.#prefix = `roost.outbox.${user}.`;
    this.#send = send;
    this.#seenOf = seenOf;
    this.#load();
  }

  /** Items of a conversation, in the order they were said. @param {string} conv */
  of(conv) {
    return this.#lanes.get(conv) ?? [];
  }

  get size() {
    let size = 0;
    for (const lane of this.#lanes.values()) size += lane.length;
    return size;
  }

  /**
   * Takes a message. It is sent as soon as it can be.
   * @param {string} conv
   * @param {import("./wire.js").Body} body
   * @returns {Item | null} null: the outbox is full
   */
  push(conv, body) {
    if (this.size >= OUTBOX_ITEMS_MAX) {
      this.emit("full");
      return null;
    }
    /** @type {Item} */
    const item = { cmid: uuidv7(this.#env), conv, body, attempt: 0, at: this.#env.now(), state: "queued" };
    this.#lane(conv).push(item);
    this.#keep(item);
    this.emit("changed", conv);
    this.#pump(conv);
    return item;
  }

  /** The connection is there. */
  open() {
    this.#open = true;
    for (const conv of this.#lanes.keys()) this.#pump(conv);
  }

  /** The connection is gone; what was under way has failed or will. */
  close() {
    this.#open = false;
    for (const timer of this.#timers) this.#env.clearTimer(timer);
    this.#timers.clear();
    for (const conv of [...this.#busy]) {
      if (!this.of(conv).some((item) => item.state === "sending")) this.#busy.delete(conv);
    }
  }

  /** Tries a failed item again. @param {string} cmid */
  retry(cmid) {
    const item = this.#find(cmid);
    if (item?.state !== "failed") return;
    item.state = "queued";
    delete item.error;
    this.emit("changed", item.conv);
    this.#pump(item.conv);
  }

  /** Forgets a failed item. @param {string} cmid */
  discard(cmid) {
    const item = this.#find(cmid);
    if (item?.state === "failed") this.#drop(item);
  }

  /** The log holds it now. @param {string} cmid */
  settle(cmid) {
    const item = this.#find(cmid);
    if (item) this.#drop(item);
  }

  /** Items acknowledged but not seen in the log (its window was dropped) are settled too. @param {string} conv */
  settleSent(conv) {
    for (const item of [...this.of(conv)]) if (item.state === "sent") this.#drop(item);
  }

  #load() {
    for (const key of this.#storage.keys(this.#prefix)) {
      try {
        const kept = JSON.parse(this.#storage.get(key) ?? "");
        if (typeof kept.conv !== "string" || typeof kept.cmid !== "string" || !kept.body) throw new Error("not an item");
        // Whether its last send arrived is unknown, if it was ever sent.
        const attempt = kept.seen === undefined ? 0 : kept.attempt + 1;
        this.#lane(kept.conv).push({ ...kept, attempt, state: "queued" });
      } catch {
        this.#storage.remove(key);
      }
    }
    // A UUIDv7 sorts by time.
    for (const lane of this.#lanes.values()) lane.sort((a, b) => (a.cmid < b.cmid ? -1 : 1));
  }

  /** @param {string} conv */
  #lane(conv) {
    let lane = this.#lanes.get(conv);
    if (!lane) this.#lanes.set(conv, (lane = []));
    return lane;
  }

  /** @param {string} cmid */
  #find(cmid) {
    for (const lane of this.#lanes.values()) {
      const item = lane.find((item) => item.cmid === cmid);
      if (item) return item;
    }
    return undefined;
  }

  /** @param {Item} item */
  #keep(item) {
    const { cmid, conv, body, attempt, seen, at } = item;
    this.#storage.set(this.#prefix + cmid, JSON.stringify({ cmid, conv, body, attempt, seen, at }));
  }

  /** @param {Item} item */
  #drop(item) {
    this.#storage.remove(this.#prefix + item.cmid);
    const lane = this.of(item.conv).filter((other) => other !== item);
    if (lane.length > 0) this.#lanes.set(item.conv, lane);
    else this.#lanes.delete(item.conv);
    this.emit("changed", item.conv);
  }

  /** Sends the first queued item of a conversation, then the next. @param {string} conv */
  async #pump(conv) {
    if (!this.#open || this.#busy.has(conv)) return;
    const item = this.of(conv).find((item) => item.state === "queued");
    if (!item) return;
    this.#busy.add(conv);
    if (item.seen === undefined) {
      item.seen = this.#seenOf(conv);
      this.#keep(item); // before it leaves: after a crash nobody could tell whether it did
    }
    item.state = "sending";
    this.emit("changed", conv);
    try {
      await this.#send(item);
      item.state = "sent";
      this.#storage.remove(this.#prefix + item.cmid);
      this.emit("changed", conv);
      this.#busy.delete(conv);
      this.#pump(conv);
    } catch (error) {
      this.#failed(item, error instanceof RoostError ? error : RoostError.lost(String(error)));
    }
  }

  /**
   * @param {Item} item
   * @param {RoostError} error
   */
  #failed(item, error) {
    const { conv } = item;
    if (!this.of(conv).includes(item)) {
      // Settled by its own entry meanwhile.
      this.#busy.delete(conv);
      this.#pump(conv);
      return;
    }
    if (!error.retryable && !error.outcomeUnknown) {
      item.state = "failed";
      item.error = error;
      this.emit("changed", conv);
      this.emit("failed", item);
      this.#busy.delete(conv);
      this.#pump(conv);
      return;
    }
    item.state = "queued";
    item.attempt += 1;
    this.#keep(item);
    this.emit("changed", conv);
    if (!this.#open) return void this.#busy.delete(conv);
    const wait = error.retryAfterMs + fullJitter(this.#env, item.attempt, RETRY_BASE_MS, RETRY_CAP_MS);
    const timer = this.#env.setTimer(() => {
      this.#timers.delete(timer);
      this.#busy.delete(conv);
      this.#pump(conv);
    }, wait);
    this.#timers.add(timer);
  }
}

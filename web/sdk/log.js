// One conversation's entries as this client holds them: a window without gaps, in order.

/** @typedef {import("./wire.js").Entry} Entry */

const PAGE_ENTRIES = 200;
/** Entries above a gap that are held until it is filled; beyond it they are fetched again. */
const HELD_ENTRIES_MAX = 1_000;
/** A gap above this is not fetched: the window starts anew at the end, and the rest is a scroll away. */
export const CATCH_UP_ENTRIES_MAX = 1_000;

/**
 * @typedef {object} LogHandlers
 * @property {(query: { after?: number, before?: number, limit: number }) => Promise<import("./wire.js").Page>} fetch
 * @property {(entries: Entry[]) => void} appended in order, each once
 * @property {(entries: Entry[]) => void} loaded older ones came
 * @property {() => void} reset the window was dropped and starts anew
 */

export class Log {
  #handlers;
  /** Contiguous, rising. @type {Entry[]} */
  entries = [];
  /** The last contiguous seq; what follows is `last + 1`. */
  last;
  /** The highest seq known to exist. */
  head;
  /** @type {Map<number, Entry>} */
  #held = new Map();
  #filling = false;
  #atStart = false;
  /** @type {Promise<number> | null} */
  #older = null;

  /**
   * @param {number} last where delivery begins: the first entry given is `last + 1`
   * @param {LogHandlers} handlers
   */
  constructor(last, handlers) {
    this.last = last;
    this.head = last;
    this.#handlers = handlers;
  }

  /** The lowest seq held; `last + 1` if none is. */
  get first() {
    return this.entries[0]?.seq ?? this.last + 1;
  }

  /** True if nothing older exists. */
  get atStart() {
    return this.#atStart || this.first <= 1;
  }

  /** An entry came, in whatever order. @param {Entry} entry */
  offer(entry) {
    if (entry.seq <= this.last) return;
    this.head = Math.max(this.head, entry.seq);
    if (this.#held.size < HELD_ENTRIES_MAX) this.#held.set(entry.seq, entry);
    this.#drain();
    this.fill();
  }

  /** The log is known to reach `head`. @param {number} head */
  reaches(head) {
    this.head = Math.max(this.head, head);
    this.fill();
  }

  /** Fetches what is missing up to `head`, if anything is. A failure is left for the next call. */
  async fill() {
    if (this.#filling || this.last >= this.head) return;
    this.#filling = true;
    try {
      if (this.head - this.last > CATCH_UP_ENTRIES_MAX) this.#jump(this.head);
      while (this.last < this.head) {
        const before = this.last;
        const page = await this.#handlers.fetch({ after: before, limit: PAGE_ENTRIES });
        const entries = page.entries ?? [];
        // The log may have lost its oldest entries to retention: then it goes on above the hole.
        if (entries.length > 0 && entries[0].seq > this.last + 1) this.#jump(entries[0].seq - 1);
        for (const entry of entries) if (entry.seq > this.last) this.#held.set(entry.seq, entry);
        this.#drain();
        if (this.last === before) break;
      }
    } catch {
      // Asked again after the next entry, sync or reconnect.
    } finally {
      this.#filling = false;
    }
  }

  /**
   * Loads entries before the window.
   * @param {number} [limit]
   * @returns {Promise<number>} how many came; rejects with a RoostError
   */
  older(limit = 50) {
    if (this.atStart) return Promise.resolve(0);
    this.#older ??= this.#loadOlder(limit).finally(() => (this.#older = null));
    return this.#older;
  }

  /** Lets go of the oldest entries. @param {number} keep */
  trim(keep) {
    if (this.entries.length <= keep) return;
    this.entries.splice(0, this.entries.length - keep);
    this.#atStart = false;
  }

  /** @param {number} limit */
  async #loadOlder(limit) {
    const before = this.first;
    const page = await this.#handlers.fetch({ before, limit });
    const entries = page.entries ?? [];
    if (entries.length === 0) this.#atStart = true;
    if (entries.at(-1)?.seq !== this.first - 1) return 0; // the window moved meanwhile
    this.entries.unshift(...entries);
    this.#handlers.loaded(entries);
    return entries.length;
  }

  #drain() {
    const from = this.entries.length;
    for (let next; (next = this.#held.get(this.last + 1)); ) {
      this.#held.delete(next.seq);
      this.entries.push(next);
      this.last = next.seq;
    }
    for (const seq of this.#held.keys()) if (seq <= this.last) this.#held.delete(seq);
    if (this.entries.length > from) this.#handlers.appended(this.entries.slice(from));
  }

  /** @param {number} last */
  #jump(last) {
    this.entries = [];
    this.last = last;
    this.#atStart = false;
    this.#handlers.reset();
  }
}

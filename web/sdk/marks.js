// How far this client holds (ACK) and the user has read (READ) each conversation. Marks only rise; the last one
// counts, so they are gathered for a moment and sent once, and again after a reconnect.

const GATHER_MS = 80;

/**
 * @typedef {object} Mark `known`: the server has confirmed it; `told`: posted on this connection, or known
 * @property {number} ack
 * @property {number} ackTold
 * @property {number} ackKnown
 * @property {number} read
 * @property {number} readTold
 * @property {number} readKnown
 */

export class Marks {
  #env;
  #post;
  /** @type {Map<string, Mark>} */
  #marks = new Map();
  /** @type {Set<string>} */
  #due = new Set();
  /** @type {any} */
  #timer = null;

  /**
   * @param {import("./env.js").Env} env
   * @param {(body: object) => boolean} post false: not connected
   */
  constructor(env, post) {
    this.#env = env;
    this.#post = post;
  }

  /** The user has read up to this, as far as known. @param {string} conv */
  readOf(conv) {
    return this.#marks.get(conv)?.read ?? 0;
  }

  /** This client holds everything up to `seq`. @param {string} conv @param {number} seq */
  ack(conv, seq) {
    const mark = this.#mark(conv);
    if (seq <= mark.ack) return;
    mark.ack = seq;
    this.#soon(conv);
  }

  /** The user has read up to `seq`. @param {string} conv @param {number} seq */
  read(conv, seq) {
    const mark = this.#mark(conv);
    if (seq <= mark.read) return;
    mark.read = seq;
    this.#soon(conv);
  }

  /** The server knows these marks. @param {string} conv @param {number} ack @param {number} read */
  known(conv, ack, read) {
    const mark = this.#mark(conv);
    mark.ackKnown = Math.max(mark.ackKnown, ack);
    mark.ackTold = Math.max(mark.ackTold, ack);
    mark.ack = Math.max(mark.ack, ack);
    mark.readKnown = Math.max(mark.readKnown, read);
    mark.readTold = Math.max(mark.readTold, read);
    mark.read = Math.max(mark.read, read);
  }

  /** After a reconnect: what was posted last may have been lost, so every mark not confirmed is told again. */
  again() {
    for (const [conv, mark] of this.#marks) {
      mark.ackTold = mark.ackKnown;
      mark.readTold = mark.readKnown;
      if (mark.ack > mark.ackTold || mark.read > mark.readTold) this.#soon(conv);
    }
  }

  stop() {
    this.#env.clearTimer(this.#timer);
    this.#timer = null;
  }

  /** @param {string} conv */
  #mark(conv) {
    let mark = this.#marks.get(conv);
    if (!mark) this.#marks.set(conv, (mark = { ack: 0, ackTold: 0, ackKnown: 0, read: 0, readTold: 0, readKnown: 0 }));
    return mark;
  }

  /** @param {string} conv */
  #soon(conv) {
    this.#due.add(conv);
    this.#timer ??= this.#env.setTimer(() => this.flush(), GATHER_MS);
  }

  /** Tells what waits now: the page may be about to go. */
  flush() {
    this.#env.clearTimer(this.#timer);
    this.#timer = null;
    for (const conv of this.#due) {
      const mark = this.#mark(conv);
      if (mark.ack > mark.ackTold) {
        if (!this.#post({ ack: { conv, seq: mark.ack } })) return;
        mark.ackTold = mark.ack;
      }
      if (mark.read > mark.readTold) {
        if (!this.#post({ read: { conv, seq: mark.read } })) return;
        mark.readTold = mark.read;
      }
      this.#due.delete(conv);
    }
  }
}

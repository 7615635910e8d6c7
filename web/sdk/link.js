// One socket, from opening to close: HELLO, CONNECT, WELCOME, heartbeat, and replies by rid.

import { RoostError } from "./codes.js";

/** @typedef {import("./wire.js").Frame} Frame */

/** From opening the socket to WELCOME. */
const WELCOME_WITHIN_MS = 12_000;
/** A reply that has not come by then is taken for lost. */
export const REPLY_WITHIN_MS = 15_000;
/** Something must come within this time after a PING. */
const PONG_WITHIN_MS = 10_000;
const HEARTBEAT_MS_DEFAULT = 25_000;
const COMMANDS_IN_FLIGHT_DEFAULT = 128;
/** Commands that wait for room in flight. */
const COMMANDS_WAITING_MAX = 1_000;
/** Closed by us: nothing came in time. */
const SILENT = 4900;

/**
 * @typedef {object} LinkHandlers
 * @property {(welcome: import("./wire.js").Welcome) => void} welcome
 * @property {(frame: Frame) => void} push
 * @property {(code: number, reason: string, error: RoostError | null) => void} closed called once; `error` is the reply to
 *   CONNECT, if that failed
 */

/** @typedef {{ body: object, resolve: (frame: Frame) => void, reject: (error: RoostError) => void, ms: number, timer: any }} Pending */

export class Link {
  #env;
  #handlers;
  #socket;
  #connect;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  /** @type {Pending[]} */
  #waiting = [];
  #rid = 0;
  #inFlightMax = COMMANDS_IN_FLIGHT_DEFAULT;
  #heartbeatMs = HEARTBEAT_MS_DEFAULT;
  /** @type {any} */
  #timer = null;
  #sentAt = 0;
  #heardAt = 0;
  #live = false;
  #closed = false;
  /** @type {RoostError | null} */
  #refusal = null;

  /**
   * @param {import("./env.js").Env} env
   * @param {string} url
   * @param {{ token: string, device: string, sync: string }} connect
   * @param {LinkHandlers} handlers
   */
  constructor(env, url, connect, handlers) {
    this.#env = env;
    this.#handlers = handlers;
    this.#connect = connect;
    this.#socket = env.openSocket(url, "roost.v1.json");
    this.#socket.onmessage = (event) => this.#received(event.data);
    this.#socket.onclose = (event) => this.#ended(event.code, event.reason);
    this.#socket.onerror = null; // onclose follows and says more
    this.#timer = env.setTimer(() => this.#end(SILENT, "no WELCOME in time"), WELCOME_WITHIN_MS);
  }

  /** True between WELCOME and the close. */
  get live() {
    return this.#live && !this.#closed;
  }

  /** By which transport it came: "WebTransport" or "WebSocket". */
  get way() {
    return this.#socket.way ?? "WebSocket";
  }

  /** True if CONNECT went out and no WELCOME came: the server may have the session all the same. */
  get unanswered() {
    return this.#rid > 0 && !this.#live;
  }

  /** Commands that await their reply or room in flight. */
  get pending() {
    return this.#pending.size + this.#waiting.length;
  }

  /**
   * Sends a command and awaits its reply.
   * @param {object} body for example `{ get: { conv } }`
   * @param {number} [ms] how long to wait for the reply, from when it was sent
   * @returns {Promise<Frame>} rejects with a RoostError
   */
  request(body, ms = REPLY_WITHIN_MS) {
    return new Promise((resolve, reject) => {
      const pending = { body, resolve, reject, ms, timer: null };
      if (this.#closed) return reject(RoostError.lost("not connected"));
      if (this.#pending.size < this.#inFlightMax) return this.#dispatch(pending);
      if (this.#waiting.length >= COMMANDS_WAITING_MAX) {
        return reject(new RoostError(401, "too many commands wait", { retryable: true }));
      }
      this.#waiting.push(pending);
    });
  }

  /**
   * Sends a command that wants no reply. Lost without a word if the link is not live.
   * @param {object} body
   */
  post(body) {
    if (this.live) this.#write(body);
  }

  /** Leaves. No handler is called afterwards. */
  close(code = 1000) {
    if (this.#closed) return;
    this.#handlers = { welcome: () => {}, push: () => {}, closed: () => {} };
    this.#end(code, "");
  }

  /** @param {Pending} pending */
  #dispatch(pending) {
    const rid = ++this.#rid;
    this.#pending.set(rid, pending);
    pending.timer = this.#env.setTimer(() => {
      if (this.#pending.delete(rid)) pending.reject(RoostError.lost("no reply in time"));
      this.#refill();
    }, pending.ms);
    this.#write({ rid, ...pending.body });
  }

  #refill() {
    while (!this.#closed && this.#waiting.length > 0 && this.#pending.size < this.#inFlightMax) {
      this.#dispatch(/** @type {Pending} */ (this.#waiting.shift()));
    }
  }

  /** @param {object} frame */
  #write(frame) {
    this.#sentAt = this.#env.now();
    try {
      this.#socket.send(JSON.stringify(frame));
    } catch {
      // The socket is closing; onclose tells everybody who waits.
    }
  }

  /** @param {unknown} data */
  #received(data) {
    if (this.#closed) return;
    this.#heardAt = this.#env.now();
    /** @type {Frame} */
    let frame;
    try {
      frame = typeof data === "string" ? JSON.parse(data) : data;
    } catch {
      return; // Not ours; a reader ignores what it does not know.
    }
    if (frame.rid) this.#replied(frame.rid, frame);
    else if (frame.hello) this.#greet();
    else if (!frame.pong) this.#handlers.push(frame);
  }

  #greet() {
    if (this.#live || this.#rid > 0) return;
    /** @type {Record<string, string>} */
    const connect = { token: this.#connect.token, device: this.#connect.device };
    if (this.#connect.sync) connect.sync = this.#connect.sync;
    this.request({ connect }, WELCOME_WITHIN_MS).then(
      (frame) => frame.welcome && this.#welcomed(frame.welcome),
      (error) => {
        this.#refusal = error; // the server's close follows
      },
    );
  }

  /** @param {import("./wire.js").Welcome} welcome */
  #welcomed(welcome) {
    if (this.#closed) return;
    this.#live = true;
    this.#env.clearTimer(this.#timer);
    this.#heartbeatMs = welcome.heartbeat_ms || HEARTBEAT_MS_DEFAULT;
    this.#inFlightMax = welcome.limits?.commands_in_flight || COMMANDS_IN_FLIGHT_DEFAULT;
    this.#beatLater();
    this.#handlers.welcome(welcome);
  }

  /** Up to a fifth is taken off at random, so that a million clients do not beat as one. */
  #beatLater() {
    const ms = this.#heartbeatMs * (1 - 0.2 * this.#env.random());
    const wait = Math.max(0, this.#sentAt + ms - this.#env.now());
    this.#timer = this.#env.setTimer(() => this.#beat(ms), wait);
  }

  /** @param {number} ms */
  #beat(ms) {
    if (this.#env.now() - this.#sentAt < ms - 1) return this.#beatLater(); // something else was sent meanwhile
    const asked = this.#env.now();
    this.#write({ ping: {} });
    this.#timer = this.#env.setTimer(() => {
      if (this.#heardAt < asked) this.#end(SILENT, "heartbeat missed");
      else this.#beatLater();
    }, Math.min(PONG_WITHIN_MS, this.#heartbeatMs));
  }

  /**
   * @param {number} rid
   * @param {Frame} frame
   */
  #replied(rid, frame) {
    const pending = this.#pending.get(rid);
    if (!pending) return; // came after its time
    this.#pending.delete(rid);
    this.#env.clearTimer(pending.timer);
    if (frame.error) pending.reject(RoostError.of(frame.error));
    else pending.resolve(frame);
    this.#refill();
  }

  /**
   * Ends from our side; the browser's own close event may take long on a dead network.
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    try {
      this.#socket.close(code === SILENT ? 1000 : code, reason);
    } catch {
      // It was never open.
    }
    this.#ended(code === SILENT ? 1006 : code, reason);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #ended(code, reason) {
    if (this.#closed) return;
    this.#closed = true;
    this.#env.clearTimer(this.#timer);
    this.#socket.onmessage = null;
    const lost = [...this.#pending.values(), ...this.#waiting];
    this.#pending.clear();
    this.#waiting = [];
    for (const pending of lost) {
      this.#env.clearTimer(pending.timer);
      pending.reject(RoostError.lost("the connection was lost"));
    }
    this.#handlers.closed(code, reason, this.#refusal);
  }
}

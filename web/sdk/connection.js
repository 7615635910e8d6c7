// Keeps one link alive: reconnects with full jitter, obeys close codes, moves at GOAWAY.

import { CLOSE, RoostError, shouldReconnect } from "./codes.js";
import { Emitter } from "./emitter.js";
import { fullJitter } from "./env.js";
import { Link } from "./link.js";
import { Ways } from "./ways.js";

const BACKOFF_BASE_MS = 1_000;
const BACKOFF_CAP_MS = 30_000;
/** A connection that lived this long was a good one: the next back-off starts from the bottom. */
const HEALTHY_AFTER_MS = 5_000;
/** An overloaded node is given more air. */
const OVERLOADED_ATTEMPT_MIN = 4;
/** A CONNECT without an answer has reached the server by then, or never will. */
const RIVAL_MS = 60_000;

/**
 * @typedef {object} ConnectionState
 * @property {"stopped" | "connecting" | "online" | "waiting"} name
 * @property {string} [way] while online: the transport, "WebTransport" or "WebSocket"
 * @property {number} [retryAt] while waiting: when the next try begins, in ms since the epoch
 * @property {number} [code] the close code behind "waiting" or "stopped"
 * @property {RoostError} [error] why it stopped, if the server said so
 */

/**
 * @typedef {object} Credentials
 * @property {(expired: boolean) => Promise<string>} token a valid token; `expired` says the last one was refused as expired
 * @property {() => string} sync the sync token held, "" if none
 */

/** Events: `state` (ConnectionState), `welcome` (Welcome), `push` (Frame). */
export class Connection extends Emitter {
  #env;
  #url;
  #device;
  #credentials;
  /** @type {Link | null} */
  #link = null;
  /** @type {Link | null} the one to be, while the old one still serves (GOAWAY) */
  #next = null;
  #attempt = 0;
  #onlineSince = 0;
  /**
   * When a link was lost whose CONNECT has no answer, in this life or at the end of an earlier one. The server may hold
   * it for the newer one of this device.
   * @type {number | null}
   */
  #rivalAt = null;
  #expired = false;
  /** @type {any} */
  #timer = null;
  /** Counts starts and stops, so that an answer to an old question is not taken for a new one. */
  #era = 0;
  /** @type {ConnectionState} */
  #state = { name: "stopped" };

  /**
   * @param {{ env: import("./env.js").Env, url: string, device: string, credentials: Credentials }} options
   */
  constructor({ env, url, device, credentials }) {
    super();
    const ways = new Ways(env);
    this.#env = { ...env, openSocket: ways.open.bind(ways) };
    this.#url = url;
    this.#device = device;
    this.#credentials = credentials;
  }

  get state() {
    return this.#state;
  }

  get online() {
    return this.#state.name === "online";
  }

  start() {
    if (this.#state.name !== "stopped") return;
    this.#attempt = 0;
    this.#era += 1;
    // Who goes on from an earlier life: what that one had sent may still be on its way.
    if (this.#credentials.sync()) this.#rivalAt = this.#env.now();
    this.#open(this.#url);
  }

  stop() {
    this.#halt({ name: "stopped" });
  }

  /** The network came back, or the person is impatient: try now instead of later. */
  nudge() {
    if (this.#state.name !== "waiting") return;
    this.#env.clearTimer(this.#timer);
    this.#open(this.#url);
  }

  /**
   * @param {object} body
   * @param {number} [ms]
   * @returns {Promise<import("./wire.js").Frame>}
   */
  request(body, ms) {
    if (!this.#link?.live) return Promise.reject(RoostError.lost("not connected"));
    return this.#link.request(body, ms);
  }

  /** @param {object} body */
  post(body) {
    this.#link?.post(body);
  }

  /** @param {ConnectionState} state */
  #go(state) {
    this.#state = state;
    this.emit("state", state);
  }

  /** @param {ConnectionState} state */
  #halt(state) {
    this.#era += 1;
    this.#env.clearTimer(this.#timer);
    this.#link?.close();
    this.#next?.close();
    this.#link = this.#next = null;
    if (this.#state.name !== "stopped") this.#go(state);
  }

  /**
   * Opens a link; while an old one serves (GOAWAY) the state stays online.
   * @param {string} url
   */
  async #open(url) {
    const era = this.#era;
    if (!this.#link) this.#go({ name: "connecting" });
    let token;
    try {
      token = await this.#credentials.token(this.#expired);
      this.#expired = false;
    } catch (error) {
      if (era === this.#era) this.#failed(error instanceof RoostError ? error : RoostError.lost(String(error)));
      return;
    }
    if (era !== this.#era) return;
    /** @type {Link} */
    const link = new Link(
      this.#env,
      url,
      { token, device: this.#device, sync: this.#credentials.sync() },
      {
        welcome: (welcome) => this.#welcomed(link, welcome),
        push: (frame) => this.#pushed(link, frame),
        closed: (code, _reason, error) => this.#closed(link, code, error),
      },
    );
    this.#next = link;
  }

  /** @param {RoostError} error the token could not be renewed */
  #failed(error) {
    if (this.#link) return; // an old link still serves; its close starts the next try
    if (error.retryable) this.#retryLater(1006);
    else this.#halt({ name: "stopped", error });
  }

  /**
   * @param {Link} link
   * @param {import("./wire.js").Welcome} welcome
   */
  #welcomed(link, welcome) {
    const old = this.#link;
    this.#link = link;
    this.#next = null;
    this.#onlineSince = this.#env.now();
    old?.close();
    this.#go({ name: "online", way: link.way });
    this.emit("welcome", welcome);
  }

  /**
   * @param {Link} link
   * @param {import("./wire.js").Frame} frame
   */
  #pushed(link, frame) {
    if (frame.goaway && link === this.#link) this.#move(frame.goaway);
    else this.emit("push", frame);
  }

  /**
   * Connects elsewhere at the slot the server gave; the old link serves until the new one is welcome.
   * @param {import("./wire.js").Goaway} goaway
   */
  #move(goaway) {
    const urls = (goaway.urls ?? []).filter((url) => /^wss?:\/\//.test(url));
    const url = urls[Math.floor(this.#env.random() * urls.length)] ?? this.#url;
    this.#env.clearTimer(this.#timer);
    this.#timer = this.#env.setTimer(() => {
      if (!this.#next) this.#open(url);
    }, goaway.slot_ms ?? 0);
  }

  /**
   * @param {Link} link
   * @param {number} code
   * @param {RoostError | null} error
   */
  #closed(link, code, error) {
    const wasNext = link === this.#next;
    if (wasNext) this.#next = null;
    else if (link === this.#link) this.#link = null;
    else return;
    const byOurselves = code === CLOSE.REPLACED && this.#isByOurselves();
    if (link.unanswered && !error && code !== CLOSE.REPLACED) this.#rivalAt = this.#env.now();
    if (code === CLOSE.TOKEN_EXPIRED || error?.code === 201) this.#expired = true;
    else if (!byOurselves && !shouldReconnect(code)) return this.#halt({ name: "stopped", code, error: error ?? undefined });
    if (wasNext && this.#link) return this.#moveAgain();
    if (this.#next) return this.#go({ name: "connecting" }); // its successor is under way
    if (this.#onlineSince && this.#env.now() - this.#onlineSince >= HEALTHY_AFTER_MS) this.#attempt = 0;
    this.#onlineSince = 0;
    if (code === CLOSE.OVERLOADED) this.#attempt = Math.max(this.#attempt, OVERLOADED_ATTEMPT_MIN);
    this.#retryLater(code, error?.retryAfterMs);
  }

  /**
   * The server closes the old link of a device when a new one comes. That is no reason to stop if the new one is ours:
   * under way, or lost before its WELCOME. Each lost one explains one such close, so that two apps that go by the name of
   * one device do not replace each other for ever.
   */
  #isByOurselves() {
    if (this.#next) return true;
    const rivalAt = this.#rivalAt;
    this.#rivalAt = null;
    return rivalAt !== null && this.#env.now() - rivalAt < RIVAL_MS;
  }

  /** The new home did not take us; the old one still serves: try the known address. */
  #moveAgain() {
    const wait = fullJitter(this.#env, this.#attempt++, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
    this.#env.clearTimer(this.#timer);
    this.#timer = this.#env.setTimer(() => {
      if (!this.#next) this.#open(this.#url);
    }, wait);
  }

  /**
   * @param {number} code
   * @param {number} [atLeastMs]
   */
  #retryLater(code, atLeastMs = 0) {
    const wait = atLeastMs + fullJitter(this.#env, this.#attempt++, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
    this.#env.clearTimer(this.#timer);
    this.#timer = this.#env.setTimer(() => this.#open(this.#url), wait);
    this.#go({ name: "waiting", retryAt: this.#env.now() + wait, code });
  }
}

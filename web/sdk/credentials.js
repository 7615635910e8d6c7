// The user's token, kept valid.

import { refresh } from "./identity.js";

/** A token is renewed when this much of its life is left, at the latest. */
const RENEW_BEFORE_MS = 60_000;

export class Credentials {
  #env;
  #base;
  #changed;
  /** @type {any} */
  #timer = null;

  /**
   * @param {import("./env.js").Env} env
   * @param {string} base
   * @param {import("./identity.js").Identity} identity
   * @param {(identity: import("./identity.js").Identity) => void} changed it is to be kept
   */
  constructor(env, base, identity, changed) {
    this.#env = env;
    this.#base = base;
    this.#changed = changed;
    this.identity = identity;
  }

  /**
   * A token that is valid now.
   * @param {boolean} expired the server has just said that it is not
   * @returns {Promise<string>} rejects with a RoostError
   */
  async token(expired) {
    const { expires } = this.identity;
    if (expired || (expires > 0 && expires - this.#env.now() < RENEW_BEFORE_MS)) await this.#renew();
    return this.identity.token;
  }

  /** @param {import("./identity.js").Identity} identity */
  set(identity) {
    this.identity = identity;
    this.#changed(identity);
  }

  /**
   * Renews in time, so that a session outlives its token.
   * @param {(token: string) => Promise<unknown>} tell gives the session the newer token
   */
  renewLater(tell) {
    this.stop();
    if (this.identity.expires <= 0) return;
    const left = this.identity.expires - this.#env.now();
    const wait = Math.max(1_000, left - Math.max(RENEW_BEFORE_MS, left / 10));
    this.#timer = this.#env.setTimer(async () => {
      // A long wait is cut short by what timers can hold.
      if (this.identity.expires - this.#env.now() > Math.max(RENEW_BEFORE_MS, left / 5)) return this.renewLater(tell);
      try {
        await this.#renew();
        await tell(this.identity.token);
        this.renewLater(tell);
      } catch {
        // The server closes with 4001 in time; the reconnect renews.
      }
    }, wait);
  }

  stop() {
    this.#env.clearTimer(this.#timer);
  }

  async #renew() {
    this.set(await refresh(this.#env, this.#base, this.identity));
  }
}

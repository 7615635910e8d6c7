// Time, chance and the network come in from outside, so that tests can play them.

/**
 * @typedef {object} SocketLike What the SDK uses of a WebSocket. A message may be a frame instead of its text.
 * @property {string} [way] by which way it came, once it is open
 * @property {(text: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 * @property {((event: any) => void) | null} onopen
 * @property {((event: { data: any }) => void) | null} onmessage
 * @property {((event: { code: number, reason: string }) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 */

/**
 * @typedef {object} Env
 * @property {() => number} now ms since the Unix epoch
 * @property {() => number} random from 0 up to, not including, 1
 * @property {(count: number) => Uint8Array} randomBytes
 * @property {(run: () => void, ms: number) => any} setTimer
 * @property {(timer: any) => void} clearTimer
 * @property {(url: string, protocol: string) => SocketLike} openSocket
 * @property {((url: string, options: object) => any) | undefined} [openTransport] a WebTransport, where there is such a thing
 * @property {(url: string, init?: any) => Promise<{ ok: boolean, status: number, json: () => Promise<any> }>} fetch
 */

/** Timers wrap above this many ms. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** The real one: browsers, and node 22 or later.
 * @type {Env} */
export const systemEnv = {
  now: () => Date.now(),
  random: () => Math.random(),
  randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  setTimer: (run, ms) => setTimeout(run, Math.min(Math.max(ms, 0), TIMER_MS_MAX)),
  clearTimer: (timer) => clearTimeout(timer),
  openSocket: (url, protocol) => /** @type {any} */ (new WebSocket(url, protocol)),
  openTransport: "WebTransport" in globalThis ? (url, options) => new WebTransport(url, options) : undefined,
  fetch: (url, init) => fetch(url, init),
};

/**
 * A UUIDv7 (RFC 9562 §5.7): sorts by the time it was made.
 * @param {Env} env
 */
export function uuidv7(env) {
  const bytes = env.randomBytes(16);
  let ms = env.now();
  for (let place = 5; place >= 0; place--) {
    bytes[place] = ms % 256;
    ms = Math.floor(ms / 256);
  }
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * Full jitter: anything from 0 to an exponentially growing bound, so that clients that fell together do not rise
 * together.
 * @param {Env} env
 * @param {number} attempt 0 at first
 * @param {number} baseMs
 * @param {number} capMs
 */
export function fullJitter(env, attempt, baseMs, capMs) {
  return Math.floor(env.random() * Math.min(capMs, baseMs * 2 ** Math.min(attempt, 16)));
}

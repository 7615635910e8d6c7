// What error and close codes mean. The ranges alone tell the client what to do; the texts are for people.

/** @type {Record<number, string>} */
const MEANINGS = {
  100: "The server did not understand this.",
  101: "The server does not know this command.",
  102: "Not connected yet.",
  103: "Already connected.",
  104: "Something in this request is missing or too long.",
  200: "This sign-in is not valid here any more.",
  201: "This sign-in has expired.",
  202: "This server does not admit guests.",
  203: "You are not allowed to do this.",
  300: "There is no such conversation.",
  301: "You are not a member of this conversation.",
  302: "Your role in this group does not allow this.",
  303: "This message was sent before with another text.",
  304: "There is no such person.",
  305: "This does not work in this kind of conversation.",
  400: "That was too fast. Wait a moment.",
  401: "Too many things at once. Wait a moment.",
  402: "This group is full.",
  403: "This message is too long.",
  404: "Watching too many people at once.",
  500: "The server had a fault. Nothing was stored.",
  501: "The server cannot store anything right now.",
  502: "It is not known yet whether this was stored.",
  503: "The server is busy.",
  504: "The server's disk is full.",
};

/** Local failures: no reply came, so nobody knows whether the command was carried out. */
export const LOST = 0;

/** A failed command. `code` is the server's, or `LOST` if no reply came (time-out, or the connection ended). */
export class RoostError extends Error {
  /**
   * @param {number} code
   * @param {string} message as the server said it
   * @param {{ retryable?: boolean, retryAfterMs?: number }} [more]
   */
  constructor(code, message, more = {}) {
    super(message);
    this.name = "RoostError";
    this.code = code;
    this.retryable = more.retryable ?? false;
    /** 0: the client's own back-off decides. */
    this.retryAfterMs = more.retryAfterMs ?? 0;
  }

  /** True if the command may have been carried out all the same: resend it with the same cmid. */
  get outcomeUnknown() {
    return this.code === LOST || this.code === 502;
  }

  /** What happened, for people. */
  get meaning() {
    return MEANINGS[this.code] ?? this.message;
  }

  /** @param {import("./wire.js").WireError | undefined} error */
  static of(error) {
    const code = error?.code ?? 500;
    return new RoostError(code, error?.message || MEANINGS[code] || `error ${code}`, {
      retryable: error?.retryable ?? false,
      retryAfterMs: error?.retry_after_ms ?? 0,
    });
  }

  /** @param {string} message */
  static lost(message) {
    return new RoostError(LOST, message, { retryable: true });
  }
}

/**
 * Whether to come back after a close. 4500 to 4999 and the codes that say "you speak wrongly" mean no;
 * everything else is an accident or the server's wish.
 * @param {number} code
 */
export function shouldReconnect(code) {
  if (code === 1002 || code === 1003 || code === 1007 || code === 1009) return false;
  return !(code >= 4500 && code <= 4999);
}

export const CLOSE = Object.freeze({
  DRAIN: 4000,
  TOKEN_EXPIRED: 4001,
  OVERLOADED: 4004,
  UNAUTHENTICATED: 4500,
  FORBIDDEN: 4501,
  REPLACED: 4503,
});

// Which way a connection takes: WebTransport where it comes through, else a WebSocket. Both look like a socket.

import { Frames, encodeFrame } from "./pb.js";

/** How long WebTransport is tried alone. */
const HEAD_START_MS = 250;
/** How long a network that swallows WebTransport is believed to go on doing so. */
const AGAIN_AFTER_MS = 300_000;
/** What the server offers is not awaited for longer, and the handshake not either. */
const OPEN_WITHIN_MS = 10_000;
/** Largest frame of a server. */
const FRAME_BYTES_MAX = 8 * 1024 * 1024;
/** How long the last words may take to leave. */
const CLOSE_WITHIN_MS = 1_000;

/** @typedef {import("./env.js").Env} Env */
/** @typedef {import("./env.js").SocketLike} SocketLike */
/** @typedef {{ port?: number, certificate_sha256?: string }} Offer */

/** Opens sockets, and remembers what worked. */
export class Ways {
  #env;
  /** Until when WebTransport is not tried, by server. @type {Map<string, number>} */
  #failed = new Map();

  /** @param {Env} env */
  constructor(env) {
    this.#env = env;
  }

  /**
   * @param {string} url of the WebSocket
   * @param {string} protocol
   * @returns {SocketLike}
   */
  open(url, protocol) {
    const server = new URL(url);
    const until = this.#failed.get(server.host) ?? 0;
    if (!this.#env.openTransport || server.protocol !== "wss:" || this.#env.now() < until) return this.#env.openSocket(url, protocol);
    return new Race(this.#env, server, protocol, () => this.#failed.set(server.host, this.#env.now() + AGAIN_AFTER_MS));
  }
}

/** Two sockets, of which the first to open is used. */
class Race {
  onopen = null;
  /** @type {SocketLike["onmessage"]} */
  onmessage = null;
  /** @type {SocketLike["onclose"]} */
  onclose = null;
  onerror = null;
  way = "";
  /** @type {SocketLike | null} */
  #won = null;
  /** Those that run. @type {Set<SocketLike>} */
  #running = new Set();
  #startSocket;
  #closed = false;

  /** @param {Env} env @param {URL} server @param {string} protocol @param {() => void} lost WebTransport came too late, or not */
  constructor(env, server, protocol, lost) {
    const timer = env.setTimer(() => this.#startSocket(), HEAD_START_MS);
    let offered = false;
    this.#startSocket = () => {
      env.clearTimer(timer);
      this.#startSocket = () => {};
      if (this.#closed || this.#won) return;
      this.#run(env.openSocket(server.href, protocol), "WebSocket", () => offered && lost());
    };
    const socket = new TransportSocket(env);
    this.#run(socket, "WebTransport", () => {});
    offer(env, server).then((/** @type {Offer | undefined} */ offer) => {
      if (!offer || this.#closed) return socket.fail();
      offered = true;
      socket.open(`https://${server.hostname}:${offer.port}/wt`, offer);
    });
  }

  /** @param {SocketLike} socket @param {string} way @param {() => void} won */
  #run(socket, way, won) {
    this.#running.add(socket);
    socket.onopen = () => {
      if (this.#won || this.#closed) return socket.close();
      this.#won = socket;
      this.way = way;
      for (const other of this.#running) if (other !== socket) quit(other);
      won();
    };
    socket.onmessage = (event) => this.#won === socket && this.onmessage?.(event);
    socket.onclose = (event) => {
      this.#running.delete(socket);
      if (!this.#won) this.#startSocket();
      if (this.#won === socket || (!this.#won && this.#running.size === 0)) this.#ended(event.code, event.reason);
    };
  }

  /** @param {number} code @param {string} reason */
  #ended(code, reason) {
    if (this.#closed) return;
    this.#closed = true;
    this.onclose?.({ code, reason });
  }

  /** @param {string} text */
  send(text) {
    this.#won?.send(text);
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code, reason) {
    this.#closed = true;
    this.#startSocket(); // nothing starts any more
    if (this.#won) this.#won.close(code, reason);
    else for (const socket of this.#running) quit(socket);
  }
}

/** @param {SocketLike} socket */
function quit(socket) {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
}

/**
 * Whether the server takes WebTransport, and where.
 * @param {Env} env @param {URL} server @returns {Promise<Offer | undefined>}
 */
async function offer(env, server) {
  try {
    const answer = await env.fetch(`https://${server.host}/v1/transports`);
    return answer.ok ? (await answer.json()).webtransport : undefined;
  } catch {
    return undefined; // WebSocket tells whether the server is there at all
  }
}

/** A session by WebTransport that looks like a WebSocket of roost.v1.json: its frames are on the first stream. */
class TransportSocket {
  /** @type {SocketLike["onopen"]} */
  onopen = null;
  /** @type {SocketLike["onmessage"]} */
  onmessage = null;
  /** @type {SocketLike["onclose"]} */
  onclose = null;
  onerror = null;
  #env;
  /** @type {any} */
  #transport = null;
  /** @type {any} */
  #writer = null;
  #ended = false;

  /** @param {Env} env */
  constructor(env) {
    this.#env = env;
  }

  /** @param {string} url @param {Offer} offer */
  async open(url, offer) {
    if (this.#ended) return;
    const timer = this.#env.setTimer(() => this.close(), OPEN_WITHIN_MS);
    try {
      const hash = offer.certificate_sha256;
      const options = hash ? { serverCertificateHashes: [{ algorithm: "sha-256", value: bytesOf(hash) }] } : {};
      this.#transport = /** @type {any} */ (this.#env.openTransport)(url, options);
      this.#transport.closed.then(
        (/** @type {any} */ info) => this.#end(info.closeCode || 1006, info.reason ?? ""),
        () => this.#end(1006, ""),
      );
      await this.#transport.ready;
      const stream = await this.#transport.createBidirectionalStream();
      this.#writer = stream.writable.getWriter();
      this.#listen(stream.readable);
      this.#listen(this.#transport.datagrams.readable);
    } catch {
      return this.fail();
    } finally {
      this.#env.clearTimer(timer);
    }
    if (this.#ended) return;
    this.onopen?.({});
    // The server hears of the stream by its first bytes, so nobody waits for HELLO.
    this.onmessage?.({ data: { hello: {} } });
  }

  /** What comes on the stream, or in a datagram. @param {any} readable */
  async #listen(readable) {
    const frames = new Frames(FRAME_BYTES_MAX);
    const reader = readable.getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return; // the close says why
        for (const frame of frames.push(value)) this.onmessage?.({ data: frame });
      }
    } catch (error) {
      if (error instanceof RangeError) this.close(1002, "no frame");
    }
  }

  /** @param {string} text */
  send(text) {
    this.#writer?.write(encodeFrame(JSON.parse(text))).catch(() => {}); // the close tells everybody who waits
  }

  /** @param {number} [code] @param {string} [reason] */
  async close(code = 1000, reason = "") {
    if (this.#ended) return;
    const transport = this.#transport;
    if (this.#writer) {
      // What was written goes before.
      const gone = this.#writer.close().catch(() => {});
      await Promise.race([gone, new Promise((resolve) => this.#env.setTimer(() => resolve(undefined), CLOSE_WITHIN_MS))]);
    }
    this.#end(1006, reason);
    try {
      transport?.close({ closeCode: code, reason });
    } catch {
      // It was over.
    }
  }

  fail() {
    this.#end(1006, "");
    this.#transport?.close();
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    this.onclose?.({ code, reason });
  }
}

/** @param {string} hex */
function bytesOf(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

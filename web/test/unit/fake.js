// A clock and sockets that a test plays by hand.

export class FakeEnv {
  #now = 1_790_000_000_000;
  #timers = new Map();
  #id = 0;
  #byte = 0;
  /** What `random` gives. */
  chance = 0.5;
  /** @type {FakeSocket[]} */
  sockets = [];
  /** @type {(url: string, init: any) => any} */
  answer = () => ({ status: 404, body: null });

  now = () => this.#now;
  random = () => this.chance;
  randomBytes = (count) => Uint8Array.from({ length: count }, () => this.#byte++ % 256);
  setTimer = (run, ms) => {
    this.#timers.set(++this.#id, { run, at: this.#now + ms });
    return this.#id;
  };
  clearTimer = (timer) => void this.#timers.delete(timer);
  openSocket = (url, protocol) => {
    const socket = new FakeSocket(url, protocol);
    this.sockets.push(socket);
    return socket;
  };
  fetch = async (url, init) => {
    const { status, body } = this.answer(url, init);
    return { ok: status < 300, status, json: async () => body };
  };

  get timers() {
    return this.#timers.size;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Lets time pass; timers run in their order, and promises in between. */
  async pass(ms) {
    const until = this.#now + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= until).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].run();
      await settle();
    }
    this.#now = until;
  }
}

export class FakeSocket {
  onmessage = null;
  onclose = null;
  onerror = null;
  /** Frames the client has sent and no test has taken. */
  sent = [];
  closedWith = null;

  constructor(url, protocol) {
    this.url = url;
    this.protocol = protocol;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closedWith = code;
  }

  /** The server says something. */
  async says(...frames) {
    for (const frame of frames) this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    await settle();
  }

  /** The server closes, or the network does (1006). */
  async ends(code, reason = "") {
    this.onclose?.({ code, reason });
    await settle();
  }

  /** Takes the first frame sent that holds this body. */
  take(name) {
    const place = this.sent.findIndex((frame) => name in frame);
    if (place < 0) throw new Error(`no ${name} was sent, only ${JSON.stringify(this.sent)}`);
    return this.sent.splice(place, 1)[0];
  }

  has(name) {
    return this.sent.some((frame) => name in frame);
  }

  /** Greets and welcomes. Returns the CONNECT. */
  async welcome(more = {}) {
    await this.says({ hello: { node: "n", protocol: "roost.v1.json", connect_within_ms: 10_000 } });
    const connect = this.take("connect");
    const welcome = { user: "u_ada", device: "d", session: "s", name: "Ada", token: "next", heartbeat_ms: 25_000, fresh: false, sync: "s0", ...more };
    await this.says({ rid: connect.rid, welcome });
    return connect;
  }

  /** Answers the first SYNC that waits. */
  async sync(rows = [], sync = "s1", more = false) {
    const frame = this.take("sync");
    await this.says({ rid: frame.rid, changed: { rows, sync, more } });
    return frame.sync;
  }
}

/** Lets every promise that can go on do so. */
export async function settle() {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

export const entry = (conv, seq, from = "u_bob", text = `text ${seq}`) => ({ conv, seq, from, cmid: `cmid-${from}-${seq}`, ts: 1_790_000_000_000 + seq, body: { text } });

// The `ws` package as a client of the documented JSON form: an implementation of WebSocket that shares nothing with ours.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { after, before, test } from "node:test";

import WebSocket from "ws";

import { Server, WITHIN_MS } from "../browser/support.js";

let on;
let off;
before(async () => {
  on = await new Server("--compression", "on", "--bench-paths").start();
  off = await new Server().start();
});
after(async () => {
  await on?.end();
  await off?.end();
});

const LONG = "To and fro, to and fro, the birds of Roost do come and go. ".repeat(40);

/** A socket and the frames that came on it. */
class Client {
  #seen = [];
  #waiting = null;
  #rid = 0;

  static async open(server, path, options) {
    const client = new Client();
    client.socket = new WebSocket(server.url.replace("http", "ws").replace(/\/$/, path), options);
    client.socket.on("message", (data, binary) => {
      client.#seen.push(binary ? data : data.toString());
      client.#waiting?.();
    });
    client.closed = once(client.socket, "close").then(([code]) => code);
    await once(client.socket, "open");
    return client;
  }

  /** The next message, as it came. */
  async next() {
    const signal = AbortSignal.timeout(WITHIN_MS);
    while (this.#seen.length === 0) {
      await new Promise((resolve, reject) => {
        this.#waiting = resolve;
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    }
    return this.#seen.shift();
  }

  /** The body `name` of the next frame that has it. */
  async hear(name) {
    for (;;) {
      const frame = JSON.parse(await this.next());
      if (frame.error) throw new Error(`error ${JSON.stringify(frame.error)}`);
      if (name in frame) return frame[name];
    }
  }

  async ask(reply, command, options) {
    this.#rid += 1;
    this.socket.send(JSON.stringify({ rid: this.#rid, ...command }), options);
    return this.hear(reply);
  }

  async end() {
    this.socket.close(1000);
    assert.equal(await this.closed, 1000);
  }
}

async function session(server, name, options) {
  const client = await Client.open(server, "/ws", options);
  const welcome = await client.ask("welcome", { connect: { guest: name, device: "node" } });
  return Object.assign(client, { user: welcome.user });
}

async function talk(server, options) {
  const [ada, bob] = [await session(server, "Ada", options), await session(server, "Bob", options)];
  const { conv } = await ada.ask("conversation", { create: { kind: "direct", members: [bob.user] } });
  for (const [seq, text] of [LONG, "short", "ü".repeat(500)].entries()) {
    const sent = await ada.ask("sent", { send: { conv, cmid: randomUUID(), body: { text } } });
    assert.equal(sent.seq, seq + 1);
    const entry = await bob.hear("entry");
    assert.deepEqual([entry.conv, entry.seq, entry.body.text], [conv, seq + 1, text]);
  }
  const { entries } = await bob.ask("page", { history: { conv, after: 0, limit: 10 } });
  assert.deepEqual(entries.map((entry) => entry.body.text), [LONG, "short", "ü".repeat(500)]);
  await ada.end();
  await bob.end();
}

// Whatever a client offers, with whatever window, is kept or not answered; the talk is the same.
for (const [name, options, agreed] of [
  ["as it comes", { perMessageDeflate: { threshold: 0 } }, true],
  ["small windows", { perMessageDeflate: { threshold: 0, serverMaxWindowBits: 9, clientMaxWindowBits: 9 } }, true],
  ["its own takeover off", { perMessageDeflate: { threshold: 0, clientNoContextTakeover: true } }, true],
  ["without", { perMessageDeflate: false }, false],
]) {
  test(`ws_talks_with_compression_${name.replaceAll(" ", "_")}`, async () => {
    const probe = await Client.open(on, "/ws", options);
    assert.equal(probe.socket.extensions, agreed ? "permessage-deflate" : "");
    await probe.end();
    await talk(on, options);
  });
}

test("ws_talks_to_a_server_that_does_not_compress", async () => {
  const probe = await Client.open(off, "/ws", { perMessageDeflate: true });
  assert.equal(probe.socket.extensions, "");
  await probe.end();
  await talk(off, { perMessageDeflate: true });
});

test("ws_gets_back_from_echo_what_it_sent_fragmented_and_compressed", async () => {
  for (const perMessageDeflate of [{ threshold: 0 }, { threshold: 0, serverMaxWindowBits: 10 }, false]) {
    const client = await Client.open(on, "/echo", { perMessageDeflate });
    const bytes = Buffer.alloc(300_000, "0123456789abcdef");
    for (let at = 0; at < bytes.length; at += 70_000) {
      client.socket.send(bytes.subarray(at, at + 70_000), { fin: at + 70_000 >= bytes.length, binary: true });
    }
    assert.ok(bytes.equals(await client.next()));
    for (const text of ["", "x", LONG, "ü".repeat(70_000)]) {
      client.socket.send(text);
      assert.equal(await client.next(), text);
    }
    client.socket.ping("!");
    const [pong] = await once(client.socket, "pong");
    assert.equal(pong.toString(), "!");
    await client.end();
  }
});

test("ws_hears_1009_for_a_message_that_inflates_beyond_the_limit", async () => {
  const client = await session(on, "Ada", { perMessageDeflate: { threshold: 0 } });
  client.socket.send(JSON.stringify({ typing: { conv: "c_1", on: true } }) + " ".repeat(200_000));
  assert.equal(await client.closed, 1009);
  assert.ok((await on.metric("roost_inflations_refused_total")) > 0);
});

test("there_is_no_echo_without_bench_paths", async () => {
  const [response] = await once(new WebSocket(off.url.replace("http", "ws") + "echo").on("error", () => {}), "unexpected-response").then(
    ([, response]) => [response],
  );
  assert.equal(response.statusCode, 404);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { encodeFrame } from "../../sdk/pb.js";
import { Ways } from "../../sdk/ways.js";
import { FakeEnv, settle } from "./fake.js";

const OFFER = { webtransport: { port: 8443, certificate_sha256: "00ff10" } };

/** A WebTransport that a test plays by hand. */
class FakeTransport {
  written = [];
  closedWith = null;

  constructor(url, options) {
    Object.assign(this, { url, options });
    this.closed = new Promise((resolve, reject) => Object.assign(this, { over: resolve, broken: reject }));
    this.ready = new Promise((resolve, reject) => Object.assign(this, { open: resolve, refuse: reject }));
    this.lane = source();
    this.loose = source();
    this.datagrams = { readable: this.loose.readable };
  }

  createBidirectionalStream = async () => ({
    readable: this.lane.readable,
    writable: { getWriter: () => ({ write: async (bytes) => void this.written.push([...bytes]), close: async () => {} }) },
  });

  close(info) {
    this.closedWith = info ?? {};
  }
}

function source() {
  const waiting = [];
  const chunks = [];
  const next = () => (waiting.length > 0 && chunks.length > 0 ? waiting.shift()(chunks.shift()) : null);
  return {
    say: (frame) => (chunks.push({ value: encodeFrame(frame), done: false }), next()),
    readable: { getReader: () => ({ read: () => new Promise((resolve) => (waiting.push(resolve), next())) }) },
  };
}

async function opened({ offer = OFFER, url = "wss://here:8443/ws", env = new FakeEnv(), ways } = {}) {
  env.answer = () => (offer ? { status: 200, body: offer } : { status: 404, body: null });
  env.transports ??= [];
  env.openTransport = (url, options) => {
    const transport = new FakeTransport(url, options);
    env.transports.push(transport);
    return transport;
  };
  ways ??= new Ways(env);
  const socket = ways.open(url, "roost.v1.json");
  const told = [];
  socket.onmessage = (event) => told.push(event.data);
  socket.onclose = (event) => told.push(event);
  await settle();
  return { env, ways, socket, told, transport: env.transports.at(-1) };
}

test("f02_webtransport_is_taken_where_it_comes_through_and_nobody_waits_for_hello", async () => {
  const { env, socket, told, transport } = await opened();
  assert.equal(transport.url, "https://here:8443/wt");
  assert.deepEqual(transport.options, { serverCertificateHashes: [{ algorithm: "sha-256", value: Uint8Array.from([0, 255, 16]) }] });
  await env.pass(200);
  assert.equal(env.sockets.length, 0);
  transport.open();
  await settle();
  assert.equal(socket.way, "WebTransport");
  assert.deepEqual(told.splice(0), [{ hello: {} }]);
  socket.send(JSON.stringify({ rid: 1, ping: {} }));
  assert.deepEqual(transport.written, [[...encodeFrame({ rid: 1, ping: {} })]]);
  transport.lane.say({ pong: {} });
  transport.loose.say({ typing: { conv: "c", on: true } });
  await settle();
  assert.deepEqual(told.splice(0), [{ pong: {} }, { typing: { conv: "c", on: true } }]);
  await env.pass(60_000);
  assert.equal(env.sockets.length, 0, "no WebSocket was needed");
  transport.over({ closeCode: 4503, reason: "replaced" });
  await settle();
  assert.deepEqual(told, [{ code: 4503, reason: "replaced" }]);
});

test("f02_a_websocket_runs_beside_it_after_a_moment_and_what_lost_is_not_tried_for_a_while", async () => {
  const { env, ways, socket, told, transport } = await opened();
  await env.pass(249);
  assert.equal(env.sockets.length, 0);
  await env.pass(1);
  assert.equal(env.socket.url, "wss://here:8443/ws");
  env.socket.onopen({});
  await env.socket.says({ hello: { node: "n" } });
  assert.equal(socket.way, "WebSocket");
  assert.deepEqual(told.map(JSON.parse), [{ hello: { node: "n" } }]);
  assert.ok(transport.closedWith, "the other is let go");
  transport.open();
  await settle();
  assert.equal(told.length, 1, "and says nothing any more");
  ways.open("wss://here:8443/ws", "p");
  await settle();
  assert.deepEqual([env.sockets.length, env.transports.length], [2, 1], "a WebSocket at once");
  ways.open("wss://there/ws", "p");
  await settle();
  assert.equal(env.transports.length, 2, "elsewhere it may come through");
  await env.pass(300_000);
  const again = ways.open("wss://here:8443/ws", "p");
  await settle();
  assert.equal(env.transports.length, 3);
  again.close();
});

test("where_webtransport_is_not_offered_or_refused_a_websocket_begins_at_once", async () => {
  const none = await opened({ offer: {} });
  assert.deepEqual([none.env.sockets.length, none.env.transports.length], [1, 0]);
  none.env.socket.onopen({});
  await none.ways.open("wss://here:8443/ws", "p");
  await settle();
  assert.equal(none.env.sockets.length, 2);
  const refused = await opened();
  refused.transport.refuse(new Error("no"));
  await settle();
  assert.equal(refused.env.sockets.length, 1);
  const unencrypted = await opened({ url: "ws://here/ws" });
  assert.deepEqual([unencrypted.env.sockets.length, unencrypted.env.transports.length], [1, 0]);
});

test("the_end_of_both_is_told_once", async () => {
  const { env, told, transport } = await opened();
  transport.refuse(new Error("no"));
  transport.broken(new Error("no"));
  await settle();
  assert.deepEqual(told, []);
  await env.socket.ends(1006, "no server");
  assert.deepEqual(told, [{ code: 1006, reason: "no server" }]);
});

test("who_is_left_while_it_opens_leaves_nothing_behind", async () => {
  const { env, socket, transport } = await opened();
  socket.close();
  await settle();
  assert.ok(transport.closedWith);
  transport.open();
  await env.pass(60_000);
  assert.deepEqual([env.sockets.length, env.timers], [0, 0]);
});

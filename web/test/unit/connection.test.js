import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection } from "../../sdk/connection.js";
import { RoostError, shouldReconnect } from "../../sdk/codes.js";
import { FakeEnv, settle } from "./fake.js";

async function started({ token = async () => "t", sync = () => "" } = {}) {
  const env = new FakeEnv();
  const connection = new Connection({ env, url: "ws://here/ws", device: "tab", credentials: { token, sync } });
  const pushes = [];
  connection.on("push", (frame) => pushes.push(frame));
  connection.start();
  await settle();
  return { env, connection, pushes };
}

test("f27_connects_with_hello_connect_welcome", async () => {
  const { env, connection } = await started({ sync: () => "s9" });
  assert.equal(env.socket.url, "ws://here/ws");
  assert.equal(env.socket.protocol, "roost.v1.json");
  assert.deepEqual(env.socket.sent, [], "nothing is said before HELLO");
  const connect = await env.socket.welcome();
  assert.deepEqual(connect, { rid: 1, connect: { token: "t", device: "tab", sync: "s9" } });
  assert.equal(connection.state.name, "online");
});

test("a_connection_without_welcome_is_given_up_and_tried_again", async () => {
  const { env, connection } = await started();
  await env.pass(12_000);
  assert.equal(connection.state.name, "waiting");
  await env.pass(1_000);
  assert.equal(env.sockets.length, 2);
});

test("the_heartbeat_takes_off_up_to_a_fifth", async () => {
  for (const [chance, ms] of [[0, 25_000], [0.5, 22_500], [0.999, 20_005]]) {
    const { env } = await started();
    env.chance = chance;
    await env.socket.welcome();
    await env.pass(ms - 2);
    assert.equal(env.socket.has("ping"), false, `not before ${ms}`);
    await env.pass(4);
    assert.equal(env.socket.has("ping"), true, `at ${ms}`);
  }
});

test("other_traffic_stands_for_a_ping", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  await env.pass(20_000);
  connection.post({ typing: { conv: "c", on: true } });
  await env.pass(20_000);
  assert.equal(env.socket.has("ping"), false);
  await env.pass(2_600);
  assert.equal(env.socket.has("ping"), true);
});

test("a_silent_server_is_left_after_a_ping", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  await env.pass(22_500);
  assert.ok(env.socket.take("ping"));
  await env.pass(10_000);
  assert.equal(connection.state.name, "waiting");
});

test("a_pong_keeps_the_connection", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  let pings = 0;
  for (let second = 0; second < 120; second++) {
    await env.pass(1_000);
    if (!env.socket.has("ping")) continue;
    env.socket.take("ping");
    pings += 1;
    await env.socket.says({ pong: {} });
  }
  assert.equal(pings, 5);
  assert.equal(connection.state.name, "online");
  assert.equal(env.sockets.length, 1);
});

test("reconnects_with_full_jitter_that_doubles_up_to_thirty_seconds", async () => {
  const { env, connection } = await started();
  const waits = [];
  for (let attempt = 0; attempt < 8; attempt++) {
    await env.socket.ends(1006);
    waits.push(connection.state.retryAt - env.now());
    await env.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000], "half of each bound");
});

test("a_healthy_connection_starts_the_back_off_anew", async () => {
  const { env, connection } = await started();
  for (let attempt = 0; attempt < 5; attempt++) {
    await env.socket.ends(1006);
    await env.pass(connection.state.retryAt - env.now());
  }
  await env.socket.welcome();
  await env.pass(6_000);
  await env.socket.ends(1006);
  assert.equal(connection.state.retryAt - env.now(), 500);
});

test("close_codes_tell_whether_to_come_back", async () => {
  for (const [code, back] of [[1000, true], [1001, true], [1006, true], [1011, true], [1002, false], [1009, false], [4000, true], [4001, true], [4010, true], [4499, true], [4500, false], [4503, false], [4999, false]]) {
    assert.equal(shouldReconnect(code), back, `${code}`);
    const { env, connection } = await started();
    await env.socket.welcome();
    await env.socket.ends(code);
    assert.equal(connection.state.name, back ? "waiting" : "stopped", `${code}`);
    await env.pass(60_000);
    assert.equal(env.sockets.length > 1, back, `${code}`);
  }
});

test("an_overloaded_node_is_given_more_air", async () => {
  const { env, connection } = await started();
  await env.socket.ends(4004);
  assert.equal(connection.state.retryAt - env.now(), 8_000);
});

test("an_expired_token_is_renewed_before_the_next_try", async () => {
  const asked = [];
  const { env } = await started({ token: async (expired) => (asked.push(expired), expired ? "new" : "old") });
  await env.socket.says({ hello: {} });
  await env.socket.says({ rid: env.socket.take("connect").rid, error: { code: 201, message: "token has expired" } });
  await env.socket.ends(4001);
  await env.pass(1_000);
  assert.deepEqual(asked, [false, true]);
  const connect = await env.socket.welcome();
  assert.equal(connect.connect.token, "new");
});

test("a_refused_token_stops_with_the_reason", async () => {
  const { env, connection } = await started();
  await env.socket.says({ hello: {} });
  await env.socket.says({ rid: 1, error: { code: 200, message: "token is not valid" } });
  await env.socket.ends(4500);
  assert.equal(connection.state.name, "stopped");
  assert.equal(connection.state.error.code, 200);
});

test("goaway_moves_at_its_slot_and_the_old_link_serves_until_then", async () => {
  const { env, connection, pushes } = await started();
  const states = [];
  connection.on("state", (state) => states.push(state.name));
  await env.socket.welcome();
  const old = env.socket;
  await old.says({ goaway: { reason: "drain", deadline_ms: 30_000, slot_ms: 4_200, urls: ["ws://there/ws"] } });
  await env.pass(4_199);
  assert.equal(env.sockets.length, 1, "not before the slot");
  await env.pass(1);
  assert.equal(env.socket.url, "ws://there/ws");
  await old.says({ entry: { conv: "c", seq: 1 } });
  assert.equal(pushes.length, 1, "the old link still serves");
  await old.ends(4503); // the server sees the same device on the new connection
  await env.socket.welcome();
  assert.equal(connection.state.name, "online");
  assert.equal(states.includes("stopped"), false);
  await connection.post({ ping: {} });
  assert.ok(env.socket.take("ping"));
});

test("goaway_closes_the_old_link_once_the_new_one_is_welcome", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  const old = env.socket;
  await old.says({ goaway: { slot_ms: 0, urls: ["javascript:alert(1)"] } });
  await env.pass(0);
  assert.equal(env.socket.url, "ws://here/ws", "an address that is no socket is not used");
  await env.socket.welcome();
  assert.equal(old.closedWith, 1000);
  assert.equal(connection.online, true);
});

test("a_failed_move_is_tried_again_while_the_old_link_serves", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  await env.socket.says({ goaway: { slot_ms: 0, urls: ["ws://there/ws"] } });
  await env.pass(0);
  await env.socket.ends(1006);
  assert.equal(connection.online, true);
  await env.pass(1_000);
  assert.equal(env.sockets.length, 3);
  assert.equal(env.socket.url, "ws://here/ws");
});

test("a_device_replaced_by_a_lost_link_of_its_own_comes_back", async () => {
  for (const [name, connectIsOut, back] of [
    ["CONNECT went out and was lost", true, true],
    ["CONNECT never went out", false, false],
  ]) {
    const { env, connection } = await started();
    await env.socket.welcome();
    const old = env.socket;
    await old.says({ goaway: { slot_ms: 0 } });
    await env.pass(0);
    if (connectIsOut) await env.socket.says({ hello: {} });
    await env.socket.ends(1006);
    await env.pass(100);
    await old.ends(4503, "replaced");
    assert.equal(connection.state.name, back ? "waiting" : "stopped", name);
    if (!back) continue;
    await env.pass(2_000);
    await env.socket.welcome();
    assert.equal(connection.state.name, "online", name);
    await env.socket.ends(4503, "replaced");
    assert.equal(connection.state.name, "stopped", `${name}: the second time it is another app`);
  }
});

test("a_connect_overtaken_by_a_lost_one_is_tried_again", async () => {
  const { env, connection } = await started();
  await env.socket.says({ hello: {} });
  await env.socket.ends(1006);
  for (const state of ["waiting", "stopped"]) {
    await env.pass(4_000);
    await env.socket.says({ hello: {} });
    await env.socket.ends(4503, "replaced");
    assert.equal(connection.state.name, state);
  }
});

test("what_an_earlier_life_had_sent_replaces_a_client_that_goes_on_once_and_does_not_stop_it", async () => {
  for (const [name, sync, after, back] of [
    ["goes on", "s1", 1_000, true],
    ["goes on for long", "s1", 61_000, false],
    ["begins", "", 1_000, false],
  ]) {
    const { env, connection } = await started({ sync: () => sync });
    await env.socket.welcome();
    while (env.now() - 1_790_000_000_000 < after) {
      await env.pass(1_000);
      await env.socket.says({ pong: {} });
    }
    await env.socket.ends(4503, "replaced");
    assert.equal(connection.state.name, back ? "waiting" : "stopped", name);
    if (!back) continue;
    await env.pass(2_000);
    await env.socket.welcome();
    await env.socket.ends(4503, "replaced");
    assert.equal(connection.state.name, "stopped", `${name}: the second time it is another app`);
  }
});

test("replies_are_matched_by_rid_and_errors_carry_their_code", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  const first = connection.request({ get: { conv: "c_1" } });
  const second = connection.request({ get: { conv: "c_2" } });
  const [one, two] = [env.socket.take("get"), env.socket.take("get")];
  await env.socket.says({ rid: two.rid, error: { code: 400, message: "too fast", retryable: true, retry_after_ms: 70 } });
  await env.socket.says({ rid: one.rid, conversation: { conv: "c_1" } });
  assert.equal((await first).conversation.conv, "c_1");
  const error = await second.catch((error) => error);
  assert.ok(error instanceof RoostError);
  assert.deepEqual([error.code, error.retryable, error.retryAfterMs, error.outcomeUnknown], [400, true, 70, false]);
});

test("a_reply_that_does_not_come_is_an_unknown_outcome", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  const late = connection.request({ get: { conv: "c" } }).catch((error) => error);
  await env.pass(15_000);
  assert.equal((await late).outcomeUnknown, true);
  const cut = connection.request({ get: { conv: "c" } }).catch((error) => error);
  await env.socket.ends(1006);
  assert.equal((await cut).outcomeUnknown, true);
});

test("commands_in_flight_stay_within_the_servers_limit", async () => {
  const { env, connection } = await started();
  await env.socket.welcome({ limits: { commands_in_flight: 2 } });
  for (const conv of ["a", "b", "c"]) connection.request({ get: { conv } }).catch(() => {});
  assert.equal(env.socket.sent.length, 2);
  await env.socket.says({ rid: env.socket.take("get").rid, ok: {} });
  assert.deepEqual(env.socket.sent.map((frame) => frame.get.conv), ["b", "c"]);
});

test("what_is_no_frame_is_ignored", async () => {
  const { env, connection, pushes } = await started();
  await env.socket.welcome();
  await env.socket.says("not json", "[]", "7", '"x"', { unknown: {} }, { rid: 99, ok: {} });
  assert.equal(connection.online, true);
  assert.equal(pushes.filter((frame) => frame.entry).length, 0);
});

test("stop_leaves_no_timer_behind", async () => {
  const { env, connection } = await started();
  await env.socket.welcome();
  connection.request({ get: {} }).catch(() => {});
  connection.stop();
  await settle();
  assert.equal(env.timers, 0);
  assert.equal(env.socket.closedWith, 1000);
  await env.pass(100_000);
  assert.equal(env.sockets.length, 1);
});

test("a_nudge_connects_at_once", async () => {
  const { env, connection } = await started();
  await env.socket.ends(1006);
  connection.nudge();
  await settle();
  assert.equal(env.sockets.length, 2);
  assert.equal(connection.state.name, "connecting");
  await env.pass(600);
  assert.equal(env.sockets.length, 2, "the planned try is off");
});

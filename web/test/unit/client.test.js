import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../../sdk/client.js";
import { memoryStorage } from "../../sdk/storage.js";
import { FakeEnv, entry, settle } from "./fake.js";

const IDENTITY = { user: "u_ada", name: "Ada", token: "t", expires: 0 };

async function started({ env = new FakeEnv(), storage = memoryStorage(), rows = [], identity = IDENTITY } = {}) {
  const client = new Client({ base: "https://here/", identity, device: "tab", storage, env });
  const got = [];
  client.on("entries", ({ entries }) => got.push(...entries.map((one) => [one.conv, one.seq])));
  client.start();
  await settle();
  await env.socket.welcome();
  await env.socket.sync(rows);
  return { env, client, got, storage };
}

const row = (more = {}) => ({ conv: "c_1", kind: "direct", head: 3, read: 1, delivered: 3, unread: 2, last: entry("c_1", 3), peer: { user: "u_bob", name: "Bob" }, ...more });

test("f06_the_socket_is_opened_beside_the_page_and_the_token_never_in_the_address", async () => {
  const { env } = await started();
  assert.equal(env.socket.url, "wss://here/ws");
});

test("the_first_sync_lists_conversations_and_says_what_is_held", async () => {
  const { env, client, got } = await started({ rows: [row({ delivered: 1 })] });
  const room = client.rooms.get("c_1");
  assert.deepEqual([room.unread, room.peer, client.people.name("u_bob"), room.last.seq], [2, "u_bob", "Bob", 3]);
  assert.deepEqual(got, [], "the past is not delivered");
  await env.pass(100);
  assert.deepEqual(env.socket.take("ack").ack, { conv: "c_1", seq: 3 });
});

test("entries_are_delivered_in_order_acknowledged_and_counted", async () => {
  const { env, client, got } = await started({ rows: [row()] });
  await env.socket.says({ entry: entry("c_1", 4) }, { entry: entry("c_1", 6) });
  const history = env.socket.take("history");
  assert.deepEqual(history.history, { conv: "c_1", after: 4, limit: 200 });
  await env.socket.says({ rid: history.rid, page: { conv: "c_1", entries: [entry("c_1", 5), entry("c_1", 6)], head: 6 } });
  assert.deepEqual(got, [["c_1", 4], ["c_1", 5], ["c_1", 6]]);
  assert.equal(client.rooms.get("c_1").unread, 5);
  await env.pass(100);
  assert.deepEqual(env.socket.take("ack").ack, { conv: "c_1", seq: 6 });
  assert.equal(env.socket.has("ack"), false, "gathered into one");
});

test("a_hint_before_its_entry_does_not_count_twice", async () => {
  const { env, client } = await started({ rows: [row()] });
  await env.socket.says({ changed: { rows: [row({ head: 4, unread: 3, last: entry("c_1", 4) })] } });
  await env.socket.says({ entry: entry("c_1", 4) });
  assert.equal(client.rooms.get("c_1").unread, 3);
});

test("an_unknown_conversation_is_delivered_and_then_looked_up", async () => {
  const { env, client, got } = await started();
  await env.socket.says({ entry: entry("c_9", 1) });
  assert.deepEqual(got, [["c_9", 1]]);
  const asked = await env.socket.sync([row({ conv: "c_9", head: 1, read: 0, unread: 1, delivered: 0, last: entry("c_9", 1) })], "s2");
  assert.equal(asked.since, "s1");
  assert.equal(client.rooms.get("c_9").peer, "u_bob");
  assert.equal(client.rooms.get("c_9").unread, 1);
});

test("sync_goes_on_page_by_page", async () => {
  const env = new FakeEnv();
  const client = new Client({ base: "http://here/", identity: IDENTITY, device: "tab", env });
  client.start();
  await settle();
  await env.socket.welcome();
  assert.deepEqual(await env.socket.sync([row()], "p1", true), { since: "", limit: 200 });
  assert.equal(client.synced, false);
  assert.deepEqual(await env.socket.sync([row({ conv: "c_2" })], "p2"), { since: "p1", limit: 200 });
  assert.deepEqual([client.synced, client.rooms.size], [true, 2]);
});

test("a_fresh_welcome_needs_no_sync_and_another_one_does", async () => {
  const { env } = await started({ rows: [row()] });
  await env.socket.ends(1006);
  await env.pass(1_000);
  const connect = await env.socket.welcome({ fresh: true });
  assert.equal(connect.connect.sync, "s1");
  assert.equal(connect.connect.token, "next", "the token of the last WELCOME");
  assert.equal(env.socket.has("sync"), false);
  await env.socket.ends(1006);
  await env.pass(2_000);
  await env.socket.welcome({ fresh: false });
  assert.deepEqual(env.socket.take("sync").sync, { since: "s1", limit: 200 });
});

test("what_was_missed_is_fetched_after_a_reconnect", async () => {
  const { env, got } = await started({ rows: [row()] });
  await env.socket.ends(1006);
  await env.pass(1_000);
  await env.socket.welcome();
  await env.socket.sync([row({ head: 5, unread: 4, last: entry("c_1", 5) })], "s2");
  const history = env.socket.take("history");
  await env.socket.says({ rid: history.rid, page: { conv: "c_1", entries: [entry("c_1", 4), entry("c_1", 5)], head: 5 } });
  assert.deepEqual(got, [["c_1", 4], ["c_1", 5]]);
});

test("a_message_said_offline_is_sent_once_and_resent_with_its_cmid", async () => {
  const { env, client, got } = await started({ rows: [row()] });
  await env.socket.ends(1006);
  client.say("c_1", "hello");
  await env.pass(1_000);
  await env.socket.welcome();
  const first = env.socket.take("send");
  assert.deepEqual(Object.keys(first.send).sort(), ["body", "cmid", "conv"]);
  await env.socket.ends(1006); // before SENT
  await env.pass(2_000);
  await env.socket.welcome();
  const again = env.socket.take("send");
  assert.deepEqual(again.send, { ...first.send, attempt: 1, seen: 3 });
  await env.socket.says({ rid: again.rid, sent: { conv: "c_1", seq: 4, ts: 5, dup: true } });
  assert.deepEqual(got, [["c_1", 4]]);
  assert.equal(client.outbox.size, 0);
  assert.equal(client.rooms.get("c_1").unread, 0, "who writes has read what was before");
});

test("an_own_entry_from_the_log_settles_a_send_that_got_no_reply", async () => {
  const { env, client, storage } = await started({ rows: [row()] });
  client.say("c_1", "hello");
  const { send } = env.socket.take("send");
  await env.socket.says({ entry: { ...entry("c_1", 4, "u_ada"), cmid: send.cmid } });
  assert.equal(client.outbox.size, 0);
  assert.deepEqual(storage.keys("roost.outbox."), []);
});

/** A page that comes back with a message unsent, and SYNC tells of it as stored before its SENT comes. */
async function overtaken() {
  const first = await started({ rows: [row()] });
  await first.env.socket.ends(1006);
  first.client.say("c_1", "hello");
  const next = await started({ rows: [row({ head: 4, last: entry("c_1", 4, "u_ada") })], storage: first.storage });
  return { ...next, resent: next.env.socket.take("send") };
}

test("a_message_that_sync_told_of_before_its_sent_came_is_not_shown_as_unsent_as_well", async () => {
  const { env, client, resent } = await overtaken();
  await env.socket.says({ rid: resent.rid, sent: { conv: "c_1", seq: 4, ts: 5, dup: false } });
  assert.equal(client.outbox.size, 0);
});

test("a_message_that_history_shows_before_its_sent_came_is_not_shown_as_unsent_as_well", async () => {
  const { env, client, resent } = await overtaken();
  client.rooms.get("c_1").log.older(10);
  await settle();
  const history = env.socket.take("history");
  const page = { conv: "c_1", entries: [{ ...entry("c_1", 4, "u_ada"), cmid: resent.send.cmid }], head: 4 };
  await env.socket.says({ rid: history.rid, page });
  assert.equal(client.outbox.size, 0);
  await env.socket.says({ rid: resent.rid, sent: { conv: "c_1", seq: 4, ts: 5, dup: false } });
  assert.equal(client.outbox.size, 0);
});

test("read_marks_rise_are_gathered_and_told_again_after_a_reconnect", async () => {
  const { env, client } = await started({ rows: [row()] });
  client.read("c_1", 2);
  client.read("c_1", 3);
  client.read("c_1", 1);
  assert.equal(client.rooms.get("c_1").unread, 0);
  await env.pass(100);
  assert.deepEqual(env.socket.take("read").read, { conv: "c_1", seq: 3 });
  await env.pass(100);
  assert.equal(env.socket.has("read"), false);
  await env.socket.ends(1006);
  await env.pass(1_000);
  await env.socket.welcome();
  await env.socket.sync([row()], "s2");
  assert.equal(client.rooms.get("c_1").unread, 0, "the server does not know yet what was read here");
  await env.pass(100);
  assert.deepEqual(env.socket.take("read").read, { conv: "c_1", seq: 3 });
});

test("receipts_raise_what_the_others_have_reached", async () => {
  const { env, client } = await started({ rows: [row()] });
  const room = client.rooms.get("c_1");
  await env.socket.says({ receipt: { conv: "c_1", user: "u_bob", delivered: 3, read: 2 } }, { receipt: { conv: "c_1", user: "u_bob", delivered: 1 } });
  assert.deepEqual(room.everybody("u_ada"), { delivered: 3, read: 2 });
  await env.socket.says({ receipt: { conv: "c_1", user: "u_ada", delivered: 3, read: 3 } });
  assert.equal(room.unread, 0, "read on another device");
});

test("what_the_others_have_reached_outlives_a_reload", async () => {
  const first = await started({ rows: [row()] });
  await first.env.socket.says({ receipt: { conv: "c_1", user: "u_bob", delivered: 3, read: 2 } });
  await first.env.pass(1_000);
  const next = await started({ rows: [row()], storage: first.storage });
  assert.deepEqual(next.client.rooms.get("c_1").everybody("u_ada"), { delivered: 3, read: 2 });
});

test("a_group_message_is_read_when_everybody_has_read_it", async () => {
  const { env, client } = await started({ rows: [row({ kind: "group", peer: undefined })] });
  const loading = client.load("c_1");
  const members = ["u_ada", "u_bob", "u_cleo"].map((user) => ({ user, role: "member" }));
  await env.socket.says({ rid: env.socket.take("get").rid, conversation: { conv: "c_1", kind: "group", head: 3, members } });
  const room = await loading;
  await env.socket.says({ receipt: { conv: "c_1", user: "u_bob", delivered: 3, read: 3 } });
  assert.deepEqual(room.everybody("u_ada"), { delivered: 0, read: 0 });
  await env.socket.says({ receipt: { conv: "c_1", user: "u_cleo", delivered: 3, read: 1 } });
  assert.deepEqual(room.everybody("u_ada"), { delivered: 3, read: 1 });
});

test("typing_is_told_sparingly_and_heard_for_a_while", async () => {
  const { env, client } = await started({ rows: [row()] });
  for (let key = 0; key < 10; key++) client.typing("c_1", true);
  assert.deepEqual(env.socket.take("typing").typing, { conv: "c_1", on: true });
  assert.equal(env.socket.has("typing"), false);
  client.typing("c_1", false);
  client.typing("c_1", false);
  assert.deepEqual(env.socket.take("typing").typing, { conv: "c_1", on: false });
  assert.equal(env.socket.has("typing"), false);
  const room = client.rooms.get("c_1");
  await env.socket.says({ typing: { conv: "c_1", user: "u_bob", on: true } });
  assert.equal(room.typing.size, 1);
  await env.pass(6_000);
  assert.equal(room.typing.size, 0, "a lost \"stopped\" does not last");
  await env.socket.says({ typing: { conv: "c_1", user: "u_bob", on: true } }, { entry: entry("c_1", 4) });
  assert.equal(room.typing.size, 0, "the message itself ends it");
});

test("watched_people_are_watched_again_by_a_new_session", async () => {
  const { env, client } = await started();
  client.people.watch(["u_bob"]);
  client.people.watch(["u_bob"]);
  const watch = env.socket.take("watch");
  assert.equal(env.socket.has("watch"), false);
  await env.socket.says({ rid: watch.rid, presence: { users: [{ user: "u_bob", online: true }] } });
  assert.deepEqual(client.people.presence("u_bob"), { online: true, lastSeen: 0 });
  await env.socket.ends(1006);
  assert.equal(client.people.presence("u_bob"), undefined, "unknown while not connected");
  await env.pass(1_000);
  await env.socket.welcome();
  assert.deepEqual(env.socket.take("watch").watch, { users: ["u_bob"] });
});

test("a_watch_refused_for_a_passing_reason_is_asked_for_again", async () => {
  const { env, client } = await started();
  client.people.watch(["u_bob"]);
  const error = { code: 503, message: "server is busy", retryable: true, retry_after_ms: 5_000 };
  await env.socket.says({ rid: env.socket.take("watch").rid, error });
  await env.pass(4_999);
  assert.equal(env.socket.has("watch"), false, "not before the server said");
  await env.pass(1);
  const watch = env.socket.take("watch");
  await env.socket.says({ rid: watch.rid, error: { code: 404, message: "too many watches or subscriptions" } });
  await env.pass(20_000);
  assert.equal(env.socket.has("watch"), false, "that does not pass");
});

test("membership_events_rename_and_take_leave", async () => {
  const { env, client } = await started({ rows: [row({ kind: "group", name: "Old" })] });
  const room = client.rooms.get("c_1");
  const event = (seq, event) => ({ entry: { conv: "c_1", seq, from: "u_bob", ts: seq, body: { event } } });
  await env.socket.says(event(4, { kind: "renamed", name: "New" }));
  assert.equal(room.name, "New");
  await env.socket.says(event(5, { kind: "removed", users: ["u_cleo"] }));
  assert.equal(room.left, false);
  await env.socket.says(event(6, { kind: "removed", users: ["u_ada"] }));
  assert.equal(room.left, true);
  await env.socket.says({ changed: { rows: [row({ kind: "group", head: 6, name: "New" })] } });
  assert.equal(room.left, false, "added again");
  await env.socket.says({ changed: { rows: [{ conv: "c_1", kind: "group", name: "", head: 0, left: true }] } });
  assert.deepEqual([room.left, room.name, room.log.head], [true, "New", 6], "a row that says so says nothing else");
  await env.socket.says({ changed: { rows: [row({ kind: "group", head: 6, name: "New" })] } });
  assert.equal(room.left, false, "added again");
});

test("a_token_about_to_expire_is_renewed_and_given_to_the_session", async () => {
  const env = new FakeEnv();
  const calls = [];
  env.answer = (url, init) => {
    calls.push([url, init.headers.authorization]);
    return { status: 200, body: { user: "u_ada", token: "newer", expires: env.now() + 7_200_000 } };
  };
  const client = new Client({ base: "http://here/", identity: IDENTITY, device: "tab", env });
  const kept = [];
  client.on("identity", (identity) => kept.push(identity.token));
  client.start();
  await settle();
  await env.socket.welcome({ expires: env.now() + 3_600_000 });
  await env.socket.sync();
  for (let step = 0; step < 55 * 12; step++) {
    await env.pass(5_000);
    await env.socket.says({ pong: {} });
  }
  assert.equal(env.sockets.length, 1);
  assert.deepEqual(calls, [["http://here/v1/refresh", "Bearer next"]]);
  assert.deepEqual(env.socket.take("refresh").refresh, { token: "newer" });
  assert.equal(kept.at(-1), "newer");
});

test("a_stopped_client_leaves_no_timer_behind", async () => {
  const { env, client } = await started({ rows: [row()] });
  client.typing("c_1", true);
  await env.socket.says({ entry: entry("c_1", 4) }, { typing: { conv: "c_1", user: "u_bob", on: true } });
  client.say("c_1", "x");
  client.read("c_1", 4);
  client.stop();
  await settle();
  assert.equal(env.timers, 0);
});

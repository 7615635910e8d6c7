import assert from "node:assert/strict";
import { test } from "node:test";

import { RoostError } from "../../sdk/codes.js";
import { uuidv7 } from "../../sdk/env.js";
import { OUTBOX_ITEMS_MAX, Outbox } from "../../sdk/outbox.js";
import { memoryStorage } from "../../sdk/storage.js";
import { FakeEnv, settle } from "./fake.js";

function outbox({ env = new FakeEnv(), storage = memoryStorage(), seen = 7 } = {}) {
  const sends = [];
  const box = new Outbox({
    env,
    storage,
    user: "u_ada",
    seenOf: () => seen,
    send: (item) => new Promise((resolve, reject) => sends.push({ ...item, resolve, reject })),
  });
  return { env, storage, box, sends };
}

const texts = (box, conv = "c") => box.of(conv).map((item) => [item.body.text, item.state]);

test("a_cmid_is_a_uuid_of_version_7_that_sorts_by_time", async () => {
  const env = new FakeEnv();
  const first = uuidv7(env);
  await env.pass(1);
  const second = uuidv7(env);
  assert.match(first, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(first < second);
  assert.equal(Number.parseInt(first.replace("-", "").slice(0, 12), 16), 1_790_000_000_000);
});

test("nothing_is_sent_before_the_connection_is_there", async () => {
  const { box, sends } = outbox();
  box.push("c", { text: "one" });
  await settle();
  assert.equal(sends.length, 0);
  box.open();
  await settle();
  assert.deepEqual([sends.length, sends[0].attempt, sends[0].seen], [1, 0, 7]);
});

test("one_conversation_keeps_its_order_and_does_not_hold_up_another", async () => {
  const { box, sends } = outbox();
  box.open();
  box.push("c", { text: "one" });
  box.push("c", { text: "two" });
  box.push("d", { text: "other" });
  await settle();
  assert.deepEqual(sends.map((send) => send.body.text), ["one", "other"]);
  sends[0].resolve({});
  await settle();
  assert.deepEqual(sends.map((send) => send.body.text), ["one", "other", "two"]);
});

test("a_resend_keeps_cmid_and_seen_and_counts_the_attempt", async () => {
  const { env, box, sends } = outbox();
  box.open();
  box.push("c", { text: "one" });
  await settle();
  sends[0].reject(RoostError.lost("cut"));
  await settle();
  await env.pass(10_000);
  assert.equal(sends.length, 2);
  assert.deepEqual([sends[1].cmid, sends[1].attempt, sends[1].seen], [sends[0].cmid, 1, 7]);
});

test("retry_after_is_waited_for", async () => {
  const { env, box, sends } = outbox();
  env.chance = 0;
  box.open();
  box.push("c", { text: "one" });
  await settle();
  sends[0].reject(new RoostError(400, "too fast", { retryable: true, retryAfterMs: 900 }));
  await settle();
  await env.pass(899);
  assert.equal(sends.length, 1);
  await env.pass(1);
  assert.equal(sends.length, 2);
});

test("a_refusal_fails_the_item_and_the_next_one_goes_on", async () => {
  const { box, sends } = outbox();
  const failed = [];
  box.on("failed", (item) => failed.push(item.error.code));
  box.open();
  box.push("c", { text: "one" });
  box.push("c", { text: "two" });
  await settle();
  sends[0].reject(new RoostError(301, "not a member"));
  await settle();
  assert.deepEqual(texts(box), [["one", "failed"], ["two", "sending"]]);
  assert.deepEqual(failed, [301]);
  box.retry(sends[0].cmid);
  sends[1].resolve({});
  await settle();
  assert.equal(sends[2].body.text, "one");
});

test("what_was_not_acknowledged_outlives_the_page", async () => {
  const first = outbox();
  first.box.push("c", { text: "never sent" });
  first.box.open();
  await settle();
  first.box.push("c", { text: "queued" });
  const next = outbox({ storage: first.storage, seen: 99 });
  assert.deepEqual(texts(next.box), [["never sent", "queued"], ["queued", "queued"]]);
  next.box.open();
  await settle();
  assert.deepEqual([next.sends[0].cmid, next.sends[0].attempt, next.sends[0].seen], [first.sends[0].cmid, 1, 7], "it may have arrived");
  next.sends[0].resolve({});
  await settle();
  assert.deepEqual([next.sends[1].attempt, next.sends[1].seen], [0, 99], "this one was never sent");
  next.sends[1].resolve({});
  await settle();
  assert.deepEqual(next.storage.keys("roost.outbox."), []);
});

test("an_acknowledged_item_stays_in_sight_until_the_log_has_it", async () => {
  const { box, sends, storage } = outbox();
  box.open();
  box.push("c", { text: "one" });
  await settle();
  sends[0].resolve({});
  await settle();
  assert.deepEqual(texts(box), [["one", "sent"]]);
  assert.deepEqual(storage.keys("roost.outbox."), []);
  box.settle(sends[0].cmid);
  assert.equal(box.size, 0);
});

test("a_lane_works_again_after_a_cut_in_any_state", async () => {
  const { env, box, sends } = outbox();
  box.open();
  box.push("c", { text: "one" });
  await settle();
  sends[0].reject(RoostError.lost("cut"));
  await settle();
  box.close(); // while the retry was due
  await env.pass(60_000);
  assert.equal(sends.length, 1, "nothing is sent while there is no connection");
  box.open();
  await settle();
  assert.equal(sends.length, 2);
  box.close(); // while the send was under way
  sends[1].reject(RoostError.lost("cut"));
  await settle();
  box.open();
  await settle();
  assert.equal(sends.length, 3);
});

test("the_outbox_has_a_limit", () => {
  const { box } = outbox();
  let full = 0;
  box.on("full", () => (full += 1));
  for (let count = 0; count < OUTBOX_ITEMS_MAX; count++) assert.ok(box.push("c", { text: "x" }));
  assert.equal(box.push("c", { text: "x" }), null);
  assert.equal(full, 1);
});

test("rubbish_in_storage_is_thrown_away", () => {
  const storage = memoryStorage();
  storage.set("roost.outbox.u_ada.x", "{");
  storage.set("roost.outbox.u_ada.y", '{"conv":3}');
  storage.set("roost.outbox.u_bob.z", "{");
  assert.equal(outbox({ storage }).box.size, 0);
  assert.deepEqual(storage.keys("roost.outbox."), ["roost.outbox.u_bob.z"]);
});

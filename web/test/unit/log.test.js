import assert from "node:assert/strict";
import { test } from "node:test";

import { CATCH_UP_ENTRIES_MAX, Log } from "../../sdk/log.js";
import { entry, settle } from "./fake.js";

/** A log over a server that holds seqs `oldest..head`. */
function logOver({ last = 0, head = 0, oldest = 1 } = {}) {
  const got = [];
  const asked = [];
  const server = { head, oldest, fails: false };
  let resets = 0;
  const log = new Log(last, {
    fetch: async (query) => {
      asked.push(query);
      if (server.fails) throw new Error("no");
      const all = [];
      for (let seq = server.oldest; seq <= server.head; seq++) all.push(entry("c", seq));
      const entries = query.before === undefined ? all.filter(({ seq }) => seq > query.after).slice(0, query.limit) : all.filter(({ seq }) => seq < query.before).slice(-query.limit);
      return { conv: "c", entries, head: server.head };
    },
    appended: (entries) => got.push(...entries.map(({ seq }) => seq)),
    loaded: () => {},
    reset: () => (resets += 1),
  });
  return { log, got, asked, server, resets: () => resets };
}

test("entries_in_order_go_straight_through_and_only_once", async () => {
  const { log, got, asked } = logOver();
  for (const seq of [1, 2, 2, 3, 1]) log.offer(entry("c", seq));
  await settle();
  assert.deepEqual(got, [1, 2, 3]);
  assert.equal(asked.length, 0);
});

test("a_gap_is_fetched_and_the_order_kept", async () => {
  const { log, got, asked } = logOver({ last: 4, head: 9 });
  log.offer(entry("c", 5));
  log.offer(entry("c", 9));
  await settle();
  assert.deepEqual(got, [5, 6, 7, 8, 9]);
  assert.deepEqual(asked, [{ after: 5, limit: 200 }]);
});

test("any_order_of_arrival_gives_the_same_log", async () => {
  for (const order of [[3, 2, 1], [2, 3, 1], [1, 3, 2], [3, 1, 2]]) {
    const { log, got } = logOver({ head: 3 });
    for (const seq of order) log.offer(entry("c", seq));
    await settle();
    assert.deepEqual(got, [1, 2, 3], `${order}`);
  }
});

test("a_failed_fetch_is_taken_up_by_the_next_call", async () => {
  const { log, got, server } = logOver({ head: 5 });
  server.fails = true;
  log.offer(entry("c", 5));
  await settle();
  assert.deepEqual(got, []);
  server.fails = false;
  log.fill();
  await settle();
  assert.deepEqual(got, [1, 2, 3, 4, 5]);
});

test("a_long_gap_is_fetched_page_by_page", async () => {
  const { log, got, asked } = logOver({ head: 450 });
  log.reaches(450);
  await settle();
  assert.equal(got.length, 450);
  assert.equal(asked.length, 3);
});

test("a_gap_too_long_starts_the_window_anew", async () => {
  const head = CATCH_UP_ENTRIES_MAX + 2;
  const { log, got, resets } = logOver({ head });
  log.reaches(head);
  await settle();
  assert.deepEqual([got.length, resets(), log.last], [0, 1, head]);
  assert.equal(await log.older(50), 50);
  assert.deepEqual([log.first, log.entries.length], [head - 49, 50]);
});

test("history_lost_to_retention_is_stepped_over", async () => {
  const { log, got, resets } = logOver({ last: 2, head: 12, oldest: 10 });
  log.offer(entry("c", 12));
  await settle();
  assert.deepEqual(got, [10, 11, 12]);
  assert.equal(resets(), 1);
});

test("older_entries_come_before_and_end_at_the_first", async () => {
  const { log } = logOver({ last: 120, head: 120 });
  assert.equal(await log.older(50), 50);
  assert.equal(await log.older(50), 50);
  assert.equal(await log.older(50), 20);
  assert.equal(log.atStart, true);
  assert.equal(await log.older(50), 0);
  assert.deepEqual(log.entries.map(({ seq }) => seq), Array.from({ length: 120 }, (_, place) => place + 1));
});

test("a_trimmed_window_can_grow_again", async () => {
  const { log } = logOver({ last: 100, head: 100 });
  await log.older(100);
  log.trim(10);
  assert.deepEqual([log.first, log.atStart], [91, false]);
  await log.older(50);
  assert.equal(log.first, 41);
});

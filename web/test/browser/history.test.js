import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Server, bubble, chatWith, enter, launch, online, openRoom, person, say, texts } from "./support.js";

let server;
let browser;
before(async () => {
  server = await new Server().start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.end();
});

/** Says `count` messages through the SDK in the page, as fast as the server takes them. */
async function fill(page, to, count) {
  return page.evaluate(
    async ({ to, count }) => {
      const { Client, systemEnv, enterAsGuest } = await import("/sdk/index.js");
      const base = new URL("/", location.href).href;
      const identity = await enterAsGuest(systemEnv, base, "Filler");
      const client = new Client({ base, identity, device: "filler" });
      client.start();
      await new Promise((resolve) => client.on("synced", resolve));
      const room = await client.direct(to);
      for (let number = 1; number <= count; number++) {
        if (client.outbox.size >= 400) await new Promise((resolve) => client.on("outbox", () => client.outbox.size < 200 && resolve()));
        client.say(room.id, `message ${number}`);
      }
      await new Promise((resolve) => (client.on("outbox", () => client.outbox.size === 0 && resolve()), client.outbox.size === 0 && resolve()));
      client.stop();
      return identity.user;
    },
    { to, count },
  );
}

const numbers = async (page) => (await texts(page)).map((text) => Number(text.split(" ")[1]));
const run = (from, to) => Array.from({ length: to - from + 1 }, (_, place) => from + place);

test("f27_older_messages_come_on_scrolling_up_and_the_place_is_kept", async () => {
  const ada = await server.guest("Ada");
  const page = await person(browser);
  await page.goto(server.url);
  await fill(page, ada.user, 150);
  await page.evaluate((ada) => localStorage.setItem("roost.name.Ada", JSON.stringify(ada)), ada);
  await enter(page, server.url, "Ada");
  await openRoom(page, "Filler");
  await page.waitForSelector(bubble("message 150"));
  const first = await numbers(page);
  assert.ok(first.length < 150, "not everything is loaded at once");
  assert.deepEqual(first, run(first[0], 150));
  assert.equal(await page.evaluate(() => innerHeight >= document.querySelector(".entries li:last-child").getBoundingClientRect().bottom), true);

  // An entry in sight must stay where it is while older ones are put above it.
  const kept = await page.evaluate(async () => {
    const scroller = document.querySelector(".scroller");
    const drawn = () => document.querySelectorAll(".entries li").length;
    const before = drawn();
    scroller.scrollTop = 650; // above the margin: nothing is loaded yet
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const top = scroller.getBoundingClientRect().top;
    const item = [...document.querySelectorAll(".entries li")].find((one) => one.getBoundingClientRect().top > top);
    scroller.scrollTop = 590;
    const was = item.getBoundingClientRect().top;
    while (drawn() === before) await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    return { was, is: item.getBoundingClientRect().top };
  });
  assert.ok(Math.abs(kept.was - kept.is) < 2, `moved from ${kept.was} to ${kept.is}`);

  for (let turn = 0; turn < 40 && (await numbers(page))[0] !== 1; turn++) {
    await page.evaluate(() => (document.querySelector(".scroller").scrollTop = 0));
    await page.waitForTimeout(50);
  }
  const all = await numbers(page);
  assert.deepEqual(all, run(1, 150), "each once, in order");
  await page.waitForSelector(".top:has-text('This is where it began')");
  assert.equal(await page.locator(".day").count(), 1);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("f27_a_long_conversation_keeps_the_page_small", async () => {
  const ada = await server.guest("Eve");
  const page = await person(browser);
  await page.goto(server.url);
  await page.evaluate((ada) => localStorage.setItem("roost.name.Eve", JSON.stringify(ada)), ada);
  await enter(page, null, "Eve");
  const filler = await person(browser);
  await filler.goto(server.url);
  await fill(filler, ada.user, 100);
  await openRoom(page, "Filler");
  await page.waitForSelector(bubble("message 100"));
  // The rest is put into the log directly: what is measured is the page, not the server.
  await page.evaluate(async () => {
    const { Client } = await import("/sdk/client.js");
    const { Messages } = await import("/app/messages.js");
    const { memoryStorage } = await import("/sdk/storage.js");
    const client = new Client({ base: location.href, identity: { user: "u_me", name: "Me", token: "", expires: 0 }, device: "none", storage: memoryStorage() });
    window.client = client;
    const { Room } = await import("/sdk/room.js");
    const { Log } = await import("/sdk/log.js");
    const room = new Room("c_long", 0, new Log(0, { fetch: async () => ({ conv: "c_long" }), appended: (entries) => client.emit("entries", { room, entries }), loaded: () => {}, reset: () => {} }));
    client.rooms.set(room.id, room);
    document.body.replaceChildren();
    const messages = new Messages(client, room);
    const place = (classes, child) => {
      const element = document.createElement("div");
      element.className = classes;
      element.append(child);
      return element;
    };
    document.body.append(place("chat", place("thread", place("thread-main", messages.element))));
    for (let seq = 1; seq <= 10_000; seq++) {
      room.log.offer({ conv: room.id, seq, from: seq % 3 ? "u_you" : "u_me", ts: 1_790_000_000_000 + seq * 60_000, body: { text: `message ${seq}` } });
    }
    window.room = room;
  });
  const drawn = () => page.locator(".entries li").count();
  assert.equal(await page.evaluate(() => window.room.log.entries.length), 10_000);
  assert.ok((await drawn()) <= 300, `${await drawn()} drawn`);
  assert.equal((await numbers(page)).at(-1), 10_000);
  const seen = [];
  for (let turn = 0; turn < 60; turn++) {
    await page.evaluate(() => (document.querySelector(".scroller").scrollTop = 0));
    await page.waitForTimeout(10);
    seen.push((await numbers(page))[0]);
  }
  assert.ok(seen.at(-1) < 9_000, `scrolled up to ${seen.at(-1)}`);
  assert.ok((await drawn()) <= 300, `${await drawn()} drawn`);
  const now = await numbers(page);
  assert.deepEqual(now, run(now[0], now.at(-1)), "without gaps");
  await page.click(".jump");
  assert.equal((await numbers(page)).at(-1), 10_000);
  await page.context().close();
  await filler.context().close();
});

test("f27_a_restarted_server_is_found_again_and_what_was_typed_meanwhile_arrives_once", async () => {
  const ada = await person(browser);
  const bob = await person(browser);
  await enter(ada, server.url, "Ada R");
  await enter(bob, server.url, "Bob R");
  await chatWith(ada, "Bob R");
  await say(ada, "before");
  await openRoom(bob, "Ada R");
  await bob.waitForSelector(bubble("before"));

  await server.kill();
  await ada.waitForSelector(".status:not([hidden]):has-text('Reconnecting in')");
  await say(ada, "while away");
  await ada.waitForSelector(`.pending ${bubble("while away").replace(".entries ", "")} .ticks[data-tick=queued]`);
  await server.start();
  await online(ada);
  await online(bob);
  await bob.waitForSelector(bubble("while away"));
  await ada.waitForSelector(`${bubble("while away")} .ticks[data-tick=read]`);
  await say(bob, "after");
  await ada.waitForSelector(bubble("after"));
  for (const page of [ada, bob]) assert.deepEqual(await texts(page), ["before", "while away", "after"]);
  assert.equal(await ada.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("roost.outbox.")).length), 0);

  for (const page of [ada, bob]) {
    await page.reload();
    await online(page);
  }
  await openRoom(ada, "Bob R");
  await ada.waitForSelector(bubble("after"));
  assert.deepEqual(await texts(ada), ["before", "while away", "after"], "the history is there");
  for (const page of [ada, bob]) {
    assert.deepEqual(page.faults, []);
    await page.context().close();
  }
});

test("f27_a_message_of_a_closed_page_is_sent_when_the_name_comes_back", async () => {
  const ada = await person(browser);
  const bob = await server.guest("Bob C");
  await enter(ada, server.url, "Ada C");
  await chatWith(ada, "Bob C", bob.user);
  await ada.context().setOffline(true);
  await ada.evaluate(() => window.dispatchEvent(new Event("offline")));
  await server.kill();
  await say(ada, "kept over a reload");
  await ada.context().setOffline(false);
  await server.start();
  await ada.goto(server.url);
  await online(ada);
  await openRoom(ada, "Bob C");
  await ada.waitForSelector(`${bubble("kept over a reload")} .ticks[data-tick=sent]`);
  assert.deepEqual(await texts(ada), ["kept over a reload"]);
  await ada.context().close();
});

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Server, bubble, chatWith, enter, launch, openRoom, person, say, texts, tick } from "./support.js";

let server;
let browser;
before(async () => {
  server = await new Server("--compression", "on").start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.end();
});

test("a_browser_agrees_on_permessage_deflate_by_itself_and_chat_works", async () => {
  const [ada, bob] = [await person(browser), await person(browser)];
  await enter(ada, server.url, "Ada");
  await enter(bob, server.url, "Bob");
  const agreed = await ada.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws`, "roost.v1.json");
        socket.onopen = () => resolve(socket.extensions);
        socket.onerror = () => reject(new Error("no socket"));
      }),
  );
  assert.match(agreed, /^permessage-deflate\b/);
  assert.match(agreed, /server_no_context_takeover/);
  assert.match(agreed, /client_no_context_takeover/);
  assert.equal(await server.metric("roost_upgrades_deflate_total"), 3, "the two pages and the one above");

  const long = "To and fro, to and fro, the birds of Roost do come and go. ".repeat(40).trim();
  await chatWith(ada, "Bob");
  await say(ada, long);
  await openRoom(bob, "Ada");
  await bob.waitForSelector(bubble(long));
  await say(bob, "grüß dich");
  await ada.waitForSelector(bubble("grüß dich"));
  await ada.waitForSelector(tick(long, "read"));
  assert.ok((await server.metric("roost_inflated_bytes_total")) > long.length, "the browser compressed what it sent");

  // History comes as a page, which is a reply.
  await bob.reload();
  await openRoom(bob, "Ada");
  await bob.waitForSelector(bubble(long));
  assert.deepEqual(await texts(bob), [long, "grüß dich"]);
  assert.ok((await server.metric("roost_messages_deflated_total")) > 0, "replies were compressed");
  for (const page of [ada, bob]) {
    assert.deepEqual(page.faults, []);
    await page.context().close();
  }
});

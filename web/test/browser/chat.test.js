import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Server, bubble, chatWith, enter, launch, online, openRoom, person, row, say, texts, tick, userOf } from "./support.js";

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

/** Each test has people of its own: names never meet. */
let round = 0;
async function people(...names) {
  round += 1;
  const pages = [];
  for (const name of names) {
    const page = await person(browser);
    page.name = `${name}${round}`;
    await enter(page, server.url, page.name);
    pages.push(page);
  }
  return pages;
}

async function part(...pages) {
  for (const page of pages) {
    assert.deepEqual(page.faults, []);
    await page.context().close();
  }
}

test("f27_two_people_chat_both_ways_and_see_ticks_typing_and_presence", async () => {
  const [ada, bob] = await people("Ada", "Bob");
  await chatWith(ada, bob.name);
  await say(ada, "Hello Bob");
  await ada.waitForSelector(tick("Hello Bob", "delivered"));
  await bob.waitForSelector(`${row(ada.name)} .badge`);
  await openRoom(bob, ada.name);
  await bob.waitForSelector(bubble("Hello Bob"));
  await ada.waitForSelector(tick("Hello Bob", "read"));
  await ada.waitForFunction(() => Object.keys(localStorage).some((key) => key.startsWith("roost.reached.")));
  await ada.reload();
  await openRoom(ada, bob.name);
  await ada.waitForSelector(tick("Hello Bob", "read"));

  await bob.locator(".composer textarea").pressSequentially("Hel");
  await ada.waitForSelector(".thread .sub.typing-now");
  await bob.fill(".composer textarea", "");
  await ada.waitForSelector(".thread .sub:not(.typing-now)");
  await say(bob, "Hello Ada");
  await ada.waitForSelector(bubble("Hello Ada"));
  await bob.waitForSelector(tick("Hello Ada", "read"));
  assert.deepEqual(await texts(ada), ["Hello Bob", "Hello Ada"]);
  assert.deepEqual(await texts(bob), ["Hello Bob", "Hello Ada"]);

  await ada.waitForSelector(".thread .sub:text-is('online')");
  await part(bob);
  await ada.waitForSelector(".thread .sub:has-text('last seen')");
  await part(ada);
});

test("f27_unread_messages_are_counted_in_the_list_and_the_title", async () => {
  const [ada, bob] = await people("Ada", "Bob");
  await chatWith(ada, bob.name);
  for (const text of ["one", "two", "three"]) await say(ada, text);
  await bob.waitForSelector(`${row(ada.name)} .badge:has-text("3")`);
  assert.equal(await bob.title(), "(3) Roost");
  await bob.reload();
  await bob.waitForSelector(`${row(ada.name)} .badge:has-text("3")`);
  await openRoom(bob, ada.name);
  await bob.waitForSelector(bubble("three"));
  await bob.waitForSelector(`${row(ada.name)}:not(:has(.badge))`);
  assert.equal(await bob.title(), "Roost");
  assert.equal(await bob.locator(".unread-line").count(), 1);
  await bob.reload();
  await online(bob);
  await bob.waitForSelector(`${row(ada.name)}:not(:has(.badge))`);
  await part(ada, bob);
});

test("f07_a_message_reaches_every_tab_of_both_people", async () => {
  const [ada, bob] = await people("Ada", "Bob");
  const second = await bob.context().newPage();
  second.faults = [];
  await enter(second, server.url, bob.name);
  assert.equal(await userOf(second, bob.name), await userOf(bob, bob.name), "the same user");
  await chatWith(ada, bob.name);
  await say(ada, "to both");
  for (const page of [bob, second]) {
    await openRoom(page, ada.name);
    await page.waitForSelector(bubble("to both"));
  }
  await say(bob, "from one");
  await second.waitForSelector(bubble("from one"));
  await part(ada, bob);
});

test("f08_a_group_shows_who_was_added_renamed_and_left", async () => {
  const [ada, bob, cleo, dan] = await people("Ada", "Bob", "Cleo", "Dan");
  await ada.click("button[aria-label='New conversation']");
  await ada.click("dialog [role=tab]:text-is('Group')");
  await ada.fill("dialog input[placeholder='Group name']", "Tower");
  for (const other of [bob, cleo]) {
    await ada.fill("dialog input[type=search]", other.name);
    await ada.click("dialog .found .row");
  }
  await ada.click("dialog button[type=submit]");
  await ada.waitForSelector(".thread .sub:text-is('3 members')");
  await say(ada, "Welcome");
  for (const page of [bob, cleo]) {
    await openRoom(page, "Tower");
    await page.waitForSelector(bubble("Welcome"));
  }
  await ada.waitForSelector(tick("Welcome", "read"));
  await say(bob, "Thanks");
  await cleo.waitForSelector(bubble("Thanks"));
  assert.equal(await cleo.locator(`.author:text-is("${bob.name}")`).count(), 1);

  await ada.click(".head-title");
  await ada.click("button[aria-label='Rename the group']");
  await ada.fill("input[aria-label='Group name']", "Tower watch");
  await ada.press("input[aria-label='Group name']", "Enter");
  await bob.waitForSelector(`.event:text-is("${ada.name} renamed the group to “Tower watch”")`);
  await bob.waitForSelector(row("Tower watch"));

  await ada.click("button:has-text('Add people')");
  await ada.fill(".panel input[type=search]", dan.name);
  await ada.click(".panel .found .row");
  await ada.click(".panel .buttons .primary");
  await bob.waitForSelector(`.event:text-is("${ada.name} added ${dan.name}")`);
  await ada.waitForSelector(".panel h4:text-is('4 members')");
  await openRoom(dan, "Tower watch");
  await say(dan, "Hi all");
  await cleo.waitForSelector(bubble("Hi all"));

  await ada.click(`.members li:has-text("${bob.name}") button:text-is("Make admin")`);
  await bob.waitForSelector(".event:text-is('" + ada.name + " made you an admin')");
  await bob.click(".head-title");
  await bob.waitForSelector(".panel button[aria-label='Rename the group']");

  await ada.click(`button[aria-label="Remove ${dan.name}"]`);
  await bob.waitForSelector(`.event:text-is("${ada.name} removed ${dan.name}")`);
  await dan.waitForSelector(".left-note");

  await cleo.click(".head-title");
  await cleo.click(".panel .danger");
  await cleo.click(".panel .danger");
  await ada.waitForSelector(`.event:text-is("${cleo.name} left")`);
  await ada.waitForSelector(".panel h4:text-is('2 members')");
  await part(ada, bob, cleo, dan);
});

test("f08_an_open_group_is_joined_by_its_id_and_a_closed_one_is_not", async () => {
  const [ada, bob] = await people("Ada", "Bob");
  await ada.click("button[aria-label='New conversation']");
  await ada.click("dialog [role=tab]:text-is('Group')");
  await ada.fill("dialog input[placeholder='Group name']", "Open air");
  await ada.click("dialog button[type=submit]");
  await ada.click(".thread .head-title");
  const id = await ada.textContent(".panel .id-line code");
  const join = async () => {
    await bob.click("button[aria-label='New conversation']");
    await bob.click("dialog [role=tab]:text-is('Join')");
    await bob.fill("dialog input", id);
    await bob.click("dialog button[type=submit]");
  };
  await join();
  await bob.waitForSelector(".toast[role=alert]");
  await bob.keyboard.press("Escape");
  await ada.click(".panel .switch");
  await ada.waitForSelector(".panel .id-line:has-text('Open group: this id lets anybody join')");
  await join();
  await ada.waitForSelector(`.event:text-is("${bob.name} joined")`);
  await say(bob, "I am in");
  await ada.waitForSelector(bubble("I am in"));
  await part(ada, bob);
});

test("f09_a_chat_started_from_both_sides_is_one_conversation", async () => {
  const [ada, bob] = await people("Ada", "Bob");
  await chatWith(ada, bob.name);
  await chatWith(bob, ada.name);
  await say(ada, "one");
  await bob.waitForSelector(bubble("one"));
  await say(bob, "two");
  await ada.waitForSelector(bubble("two"));
  for (const page of [ada, bob]) assert.equal(await page.locator(".rooms .row").count(), 1);
  await part(ada, bob);
});

test("f27_two_people_of_one_name_are_told_apart_by_a_short_id", async () => {
  const [ada] = await people("Ada");
  const twins = [await server.guest(`Twin${round}`), await server.guest(`Twin${round}`)];
  await ada.click("button[aria-label='New conversation']");
  await ada.fill("dialog input[type=search]", `Twin${round}`);
  for (const twin of twins) {
    const shown = ada.locator(`dialog .found [data-user="${twin.user}"] .id`);
    assert.equal(await shown.textContent(), `#${twin.user.slice(-4)}`);
  }
  await ada.fill("dialog input[type=search]", "Nobody of this name");
  await ada.waitForSelector("dialog .people-search p:has-text('Nobody found')");
  await part(ada);
});

test("f27_hostile_text_is_shown_as_text", async () => {
  const [ada, bob] = await people("Ada", "Bob");
  const corpus = [
    "<script>window.hurt = 1</script>",
    "<img src=x onerror=\"window.hurt = 1\">",
    "\"><svg onload=window.hurt=1>",
    "javascript:window.hurt=1",
    "[x](javascript:window.hurt=1) <a href=\"javascript:window.hurt=1\">y</a>",
    "https://a.example/\"onmouseover=\"window.hurt=1",
    "{{constructor.constructor('window.hurt=1')()}} ${window.hurt=1} &lt;b&gt; &amp;",
    "\u202Eevil\u202C \u0000 \uFFFF zero\u200Bwidth",
    "a".repeat(5_000),
    "👩‍👩‍👧‍👦🏳️‍🌈 Ẑ̶̡̛a̷l̵g̶o̸ اَلْعَرَبِيَّةُ 中文",
  ];
  await chatWith(ada, bob.name);
  await openRoom(bob, ada.name).catch(() => {});
  for (const text of corpus) await say(ada, text);
  await ada.waitForFunction((count) => document.querySelectorAll(".entries:not(.pending) .text").length === count, corpus.length);
  await openRoom(bob, ada.name);
  await bob.waitForFunction((count) => document.querySelectorAll(".entries .text").length === count, corpus.length);
  for (const page of [ada, bob]) {
    assert.deepEqual(await texts(page), corpus);
    assert.equal(await page.evaluate(() => window.hurt), undefined);
    assert.equal(await page.locator(".text img, .text svg, .text script, .text b").count(), 0);
    const links = await page.$$eval(".text a", (all) => all.map((one) => [one.href, one.rel, one.getAttributeNames().sort().join()]));
    assert.deepEqual(links, [["https://a.example/", "noopener noreferrer", "href,rel,target"]]);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, "nothing sticks out");
  }
  await part(ada, bob);
});

test("f27_hostile_names_are_shown_as_text", async () => {
  const [ada] = await people("Ada");
  const name = `<img src=x onerror="window.hurt=1">${round}`;
  const other = await person(browser);
  await enter(other, server.url, name);
  await chatWith(other, ada.name);
  await say(other, "hello");
  await openRoom(ada, name.replaceAll('"', '\\"'));
  await ada.waitForSelector(bubble("hello"));
  assert.equal(await ada.textContent(".thread .head-title .title"), name);
  assert.equal(await ada.evaluate(() => window.hurt), undefined);
  await part(ada, other);
});

test("f27_the_keyboard_alone_is_enough", async () => {
  const [ada, bob] = await people("Ada", "Bob");
  await ada.focus("button[aria-label='New conversation']");
  await ada.keyboard.press("Enter");
  await ada.waitForSelector("dialog[open]");
  await ada.keyboard.type(bob.name);
  await ada.waitForSelector("dialog .found .row");
  await ada.keyboard.press("Enter");
  await ada.waitForSelector(".composer");
  await ada.keyboard.type("line one");
  await ada.keyboard.press("Shift+Enter");
  await ada.keyboard.type("line two");
  await ada.keyboard.press("Enter");
  await ada.waitForSelector(".entries:not(.pending) .text");
  assert.deepEqual(await texts(ada), ["line one\nline two"]);
  await ada.keyboard.press("Shift+Tab"); // the scroller
  await ada.focus(".head-title");
  await ada.keyboard.press("Enter");
  await ada.waitForSelector(".panel");
  await ada.keyboard.press("Escape");
  await ada.waitForSelector(".panel", { state: "detached" });
  await ada.keyboard.press("Escape");
  await ada.waitForSelector(".nothing");
  assert.equal(await ada.evaluate(() => document.activeElement.className), "row", "the focus is back on the list");
  await part(ada, bob);
});

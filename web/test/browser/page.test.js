import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Server, bubble, chatWith, enter, launch, online, openRoom, person, say, texts, userOf } from "./support.js";

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

async function switchName(page) {
  await page.click("button.me");
  await page.click("dialog button:has-text('Switch name')");
  await page.waitForSelector("#enter:not([hidden])");
}

const rooms = (page) => page.$$eval(".rooms .title", (all) => all.map((one) => one.textContent));

test("f26_a_name_is_needed_before_chatting", async () => {
  const page = await person(browser);
  await page.goto(server.url);
  await page.waitForSelector("#enter:not([hidden])");
  for (const name of ["", "   "]) {
    await page.fill("#name", name);
    await page.press("#name", "Enter");
    assert.equal(await page.textContent("#problem"), "Please enter a name first.");
    assert.equal(await page.locator(".chat").count(), 0);
  }
  await page.fill("#name", "名".repeat(64));
  await page.press("#name", "Enter");
  assert.equal(await page.textContent("#problem"), "This name is too long.");
  await enter(page, null, "  Ada   of the  tower ");
  assert.equal(await page.textContent(".me .title"), "Ada of the tower");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("f26_switching_the_name_loads_that_users_own_history", async () => {
  const [page, bob] = [await person(browser), await person(browser)];
  await enter(bob, server.url, "Bob S");
  await enter(page, server.url, "Ada S");
  await chatWith(page, "Bob S");
  await say(page, "from Ada");
  await page.waitForSelector(bubble("from Ada"));
  const ada = await userOf(page, "Ada S");

  await switchName(page);
  await enter(page, null, "Cleo S");
  assert.deepEqual(await rooms(page), [], "a new name has nothing");
  await chatWith(page, "Bob S");
  assert.deepEqual(await texts(page), []);
  await say(page, "from Cleo");
  await page.waitForSelector(bubble("from Cleo"));

  await switchName(page);
  await page.click(".offered .chip:has-text('Ada S')");
  await online(page);
  assert.equal(await userOf(page, "Ada S"), ada);
  await openRoom(page, "Bob S");
  await page.waitForSelector(bubble("from Ada"));
  assert.deepEqual(await texts(page), ["from Ada"]);

  await page.reload();
  await online(page);
  assert.equal(await page.textContent(".me .title"), "Ada S", "a reload keeps the name");
  const tab = await page.context().newPage();
  await tab.goto(server.url);
  await tab.waitForSelector("#enter:not([hidden]) .offered .chip");
  assert.equal(await tab.locator(".chat").count(), 0, "a new tab asks");
  for (const one of [page, bob]) {
    assert.deepEqual(one.faults, []);
    await one.context().close();
  }
});

test("f06_somebody_elses_name_gives_nothing_of_theirs", async () => {
  const [ada, bob, thief] = [await person(browser), await person(browser), await person(browser)];
  await enter(bob, server.url, "Bob T");
  await enter(ada, server.url, "Ada T");
  await chatWith(ada, "Bob T");
  await say(ada, "a secret");
  await openRoom(bob, "Ada T");
  await bob.waitForSelector(bubble("a secret"));
  await enter(thief, server.url, "Ada T");
  assert.notEqual(await userOf(thief, "Ada T"), await userOf(ada, "Ada T"));
  assert.deepEqual(await rooms(thief), []);
  await say(bob, "for Ada only");
  await ada.waitForSelector(bubble("for Ada only"));
  assert.deepEqual(await rooms(thief), []);
  for (const one of [ada, bob, thief]) await one.context().close();
});

test("f06_a_forgotten_name_is_entered_afresh", async () => {
  const page = await person(browser);
  await enter(page, server.url, "Ada F");
  const before = await userOf(page, "Ada F");
  await page.click("button.me");
  await page.click("dialog .danger");
  await page.click("dialog .danger");
  await page.waitForSelector("#enter:not([hidden])");
  assert.equal(await page.locator(".offered .chip").count(), 0);
  assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), [], "nothing of it stays");
  await enter(page, null, "Ada F");
  assert.notEqual(await userOf(page, "Ada F"), before);
  await page.context().close();
});

test("f06_a_token_that_is_not_valid_leads_back_to_the_first_screen", async () => {
  const page = await person(browser);
  await enter(page, server.url, "Ada X");
  await page.evaluate(() => {
    const identity = JSON.parse(localStorage.getItem("roost.name.Ada X"));
    localStorage.setItem("roost.name.Ada X", JSON.stringify({ ...identity, token: "not.a.token" }));
  });
  await page.reload();
  await page.waitForSelector("#enter:not([hidden])");
  assert.match(await page.textContent("#problem"), /Enter your name to start afresh/);
  await enter(page, null, "Ada X");
  await page.context().close();
});

test("f26_errors_stand_top_right_in_red_and_go_after_five_seconds", async () => {
  const page = await person(browser);
  await page.clock.install();
  await enter(page, server.url, "Ada E");
  const join = async () => {
    await page.click("dialog button[type=submit]");
  };
  await page.click("button[aria-label='New conversation']");
  await page.click("dialog [role=tab]:text-is('Join')");
  await page.fill("dialog input", "c_0000000000000000000000");
  await page.clock.pauseAt(await page.evaluate(() => Date.now() + 1_000));
  await join();
  const toast = page.locator(".toast[role=alert]");
  await toast.waitFor();
  assert.match(await toast.textContent(), /There is no such conversation\..*300/, "the server's error with its meaning");
  const look = await toast.evaluate((element) => {
    const box = element.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + 30, box.y + 10);
    return { right: innerWidth - box.right, top: box.top, colour: getComputedStyle(element).backgroundColor, above: element.contains(top) };
  });
  assert.ok(look.right < 40 && look.top < 40, JSON.stringify(look));
  const [red, green, blue] = look.colour.match(/\d+/g).map(Number);
  assert.ok(red > 150 && green < 80 && blue < 80, look.colour);
  assert.equal(look.above, true, "not hidden under the dialog");
  await page.clock.runFor(3_000);
  await join();
  await page.waitForFunction(() => document.querySelectorAll(".toast").length === 2);
  await page.clock.runFor(1_900);
  assert.equal(await toast.count(), 2, "4.9 s after the first");
  await page.clock.runFor(200);
  assert.equal(await toast.count(), 1, "5.1 s after the first");
  await page.clock.runFor(3_000);
  assert.equal(await toast.count(), 0);
  await page.context().close();
});

test("f26_a_message_the_server_refuses_says_why_and_can_be_deleted", async () => {
  const [ada, bob] = [await person(browser), await person(browser)];
  // Bob's page does not hear that he was removed, and writes.
  await bob.addInitScript(() => {
    const receive = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
    window.WebSocket = class extends WebSocket {
      set onmessage(run) {
        receive.set.call(this, run && ((event) => (/"(removed|left)"/.test(event.data) ? undefined : run(event))));
      }
    };
  });
  await enter(bob, server.url, "Bob K");
  await enter(ada, server.url, "Ada K");
  await ada.click("button[aria-label='New conversation']");
  await ada.click("dialog [role=tab]:text-is('Group')");
  await ada.fill("dialog input[placeholder='Group name']", "Club");
  await ada.fill("dialog input[type=search]", "Bob K");
  await ada.click("dialog .found .row");
  await ada.click("dialog button[type=submit]");
  await openRoom(bob, "Club");
  await ada.click(".head-title");
  await ada.click("button[aria-label='Remove Bob K']");
  await ada.waitForSelector(".panel h4:text-is('1 member')");
  await say(bob, "am I still here?");
  await bob.waitForSelector(".failed-why");
  await bob.waitForSelector(".toast");
  await bob.click(".failed-why button:text-is('Delete')");
  await bob.waitForSelector(".failed-why", { state: "detached" });
  for (const one of [ada, bob]) await one.context().close();
});

test("f27_a_phone_shows_list_and_chat_as_two_screens", async () => {
  const bob = await person(browser);
  await enter(bob, server.url, "Bob P");
  const phone = await person(browser, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  await enter(phone, server.url, "Ada P");
  const fits = () => phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  assert.equal(await fits(), true);
  await chatWith(phone, "Bob P");
  assert.equal(await phone.isVisible(".sidebar"), false);
  await phone.fill(".composer textarea", "from the phone");
  await phone.tap("button[aria-label='Send']");
  await openRoom(bob, "Ada P");
  await bob.waitForSelector(bubble("from the phone"));
  await phone.tap(".head-title");
  await phone.waitForSelector(".panel");
  assert.equal(await fits(), true);
  await phone.tap("button[aria-label='Close details']");
  await phone.tap("button[aria-label='Back to the list']");
  assert.equal(await phone.isVisible(".sidebar"), true);
  assert.equal(await phone.locator(".thread").count(), 0);
  await say(bob, "to the phone");
  await phone.waitForSelector(".rooms .badge:has-text('1')");
  await phone.tap(".rooms .row");
  await phone.waitForSelector(bubble("to the phone"));
  const small = await phone.$$eval("button", (all) => all.filter((one) => one.offsetParent && one.getBoundingClientRect().height < 40).map((one) => one.className));
  assert.deepEqual(small, [], "everything is large enough for a finger");
  for (const one of [phone, bob]) {
    assert.deepEqual(one.faults, []);
    await one.context().close();
  }
});

test("f27_the_same_tab_twice_keeps_one_and_offers_to_come_back", async () => {
  const page = await person(browser);
  await enter(page, server.url, "Ada D");
  const copy = await page.context().newPage();
  await copy.addInitScript((device) => sessionStorage.setItem("roost.device", device), await page.evaluate(() => sessionStorage.getItem("roost.device")));
  await enter(copy, server.url, "Ada D");
  await page.waitForSelector(".status:has-text('open in another window')");
  await page.click(".status button:text-is('Use it here')");
  await online(page);
  await copy.waitForSelector(".status:has-text('open in another window')");
  await page.context().close();
});

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import net from "node:net";
import { after, before, test } from "node:test";

import { Server, WITHIN_MS, bubble, chatWith, enter, launch, online, openRoom, person, say, texts, tick } from "./support.js";

/** A self-made certificate: the page's own connection is excused from it, WebTransport knows it by its hash. */
const TRUSTING = { ignoreHTTPSErrors: true };
/** The transport that the page's session has come by. */
const way = (page) => page.evaluate(() => document.querySelector(".status").dataset.way);

let browser;
before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});

test("f02_two_pages_chat_by_webtransport", async () => {
  const server = await new Server("--dev-tls").start();
  try {
    const [ada, bob] = [await person(browser, TRUSTING), await person(browser, TRUSTING)];
    await enter(ada, server.secureUrl, "Ada");
    await enter(bob, server.secureUrl, "Bob");
    assert.deepEqual([await way(ada), await way(bob)], ["WebTransport", "WebTransport"]);
    assert.equal(await server.metric("roost_webtransport_sessions_total"), 2);
    assert.equal(await server.metric("roost_upgrades_total"), 0, "nobody came by WebSocket");
    await chatWith(ada, "Bob");
    await say(ada, "by WebTransport");
    await openRoom(bob, "Ada");
    await bob.waitForSelector(bubble("by WebTransport"));
    // An ephemeral push, which comes in a datagram.
    await bob.locator(".composer textarea").pressSequentially("gr");
    await ada.waitForSelector(".thread .sub.typing-now");
    await say(bob, "grüß dich");
    await ada.waitForSelector(bubble("grüß dich"));
    await ada.waitForSelector(tick("by WebTransport", "read"));
    await bob.reload();
    await online(bob);
    assert.equal(await way(bob), "WebTransport", "after a reload");
    await openRoom(bob, "Ada");
    await bob.waitForSelector(bubble("by WebTransport"));
    assert.deepEqual(await texts(bob), ["by WebTransport", "grüß dich"]);
    for (const page of [ada, bob]) {
      assert.deepEqual(page.faults, []);
      await page.context().close();
    }
  } finally {
    await server.end();
  }
});

/** In the page: sessions of one device, each of which replaces the one before. How many were told what. */
async function replaced(token, rounds) {
  const { encodeFrame, Frames } = await import("/sdk/pb.js");
  const { webtransport } = await (await fetch("/v1/transports")).json();
  const value = Uint8Array.from(webtransport.certificate_sha256.match(/../g), (byte) => parseInt(byte, 16));
  const open = async () => {
    const options = { serverCertificateHashes: [{ algorithm: "sha-256", value }] };
    const transport = new WebTransport(`https://${location.hostname}:${webtransport.port}/wt`, options);
    const closed = transport.closed.then(({ closeCode }) => closeCode, (error) => error.message);
    await transport.ready;
    const { readable, writable } = await transport.createBidirectionalStream();
    await writable.getWriter().write(encodeFrame({ rid: 1, connect: { token, device: "same" } }));
    const [reader, frames] = [readable.getReader(), new Frames(65_536)];
    for (let seen = []; !seen.some((frame) => frame.welcome); seen = frames.push((await reader.read()).value));
    return [closed];
  };
  const told = {};
  for (let round = 0, last = await open(); round < rounds; round++) {
    const next = await open();
    const code = await last[0];
    told[code] = (told[code] ?? 0) + 1;
    last = next;
  }
  return told;
}

test("f02_a_page_reads_why_its_session_by_webtransport_was_closed", async () => {
  const server = await new Server("--dev-tls").start();
  try {
    const page = await person(browser, TRUSTING);
    await page.goto(server.secureUrl);
    const { token } = await server.guest("Ada");
    const told = await page.evaluate(`(${replaced})(${JSON.stringify(token)}, 20)`);
    // Once in a hundred times Chromium itself tells the page of a lost connection instead.
    assert.ok(told[4503] >= 17, JSON.stringify(told));
    await page.context().close();
  } finally {
    await server.end();
  }
});

test("f02_a_page_that_came_by_webtransport_comes_back_after_a_crash_of_the_server", async () => {
  const server = await new Server("--dev-tls").start();
  try {
    const ada = await person(browser, TRUSTING);
    const bob = await server.guest("Bob");
    await enter(ada, server.secureUrl, "Ada");
    assert.equal(await way(ada), "WebTransport");
    await chatWith(ada, "Bob", bob.user);
    await server.kill();
    await server.start();
    // What is said goes to a server that knows nothing of the session, and tells so.
    await say(ada, "still there?");
    await ada.waitForSelector(tick("still there?", "sent"));
    assert.deepEqual(ada.faults, []);
    await ada.context().close();
  } finally {
    await server.end();
  }
});

test("f02_a_page_comes_by_websocket_where_webtransport_is_not_offered_or_swallowed", async () => {
  const server = await new Server("--dev-tls", "--quic", "off").start();
  try {
    const page = await person(browser, TRUSTING);
    await enter(page, server.secureUrl, "Ada");
    assert.equal(await way(page), "WebSocket", "not offered");
    await page.context().close();
  } finally {
    await server.end();
  }
  // Somebody takes the datagrams and says nothing: only streams go through.
  const hole = createSocket("udp4");
  await new Promise((resolve) => hole.bind(0, "127.0.0.1", resolve));
  const { port } = hole.address();
  const behind = await new Server("--dev-tls").start();
  const streams = new Set();
  const network = net.createServer((near) => {
    const far = net.connect(Number(new URL(behind.url).port), "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      streams.add(one);
      one.on("error", () => {}).on("close", () => other.destroy());
      one.pipe(other);
    }
  });
  try {
    await new Promise((resolve) => network.listen(port, "127.0.0.1", resolve));
    const page = await person(browser, TRUSTING);
    // The server tells the port that it knows; behind another address that is another.
    await page.route("**/v1/transports", async (route) => {
      const told = await (await route.fetch()).json();
      await route.fulfill({ json: { webtransport: { ...told.webtransport, port } } });
    });
    const before = Date.now();
    await enter(page, `https://127.0.0.1:${port}/`, "Ada");
    assert.equal(await way(page), "WebSocket", "swallowed");
    assert.ok(Date.now() - before < WITHIN_MS);
    await page.context().close();
  } finally {
    for (const stream of streams) stream.destroy();
    network.close();
    hole.close();
    await behind.end();
  }
});

// A real server and a real browser for the tests. ROOST_BIN names the server's binary, CHROMIUM the browser's.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

const BROWSER_FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** Generous: the machine may be busy. */
export const WITHIN_MS = 20_000;

/** A `roost serve` on a directory of its own. It can be stopped and started again on the same port. */
export class Server {
  #dir = mkdtempSync(join(tmpdir(), "roost-web-"));
  #child = null;
  #listen = "127.0.0.1:0";
  #settings = [];
  #admin = "";

  /** `settings` are further flags. */
  constructor(...settings) {
    this.#settings = settings;
  }

  get url() {
    return `http://${this.#listen}/`;
  }

  /** The same by TLS. By its address: of a name with several, Chromium tries the first alone for WebTransport. */
  get secureUrl() {
    return `https://${this.#listen}/`;
  }

  async start() {
    const binary = process.env.ROOST_BIN;
    if (!binary || !existsSync(binary)) throw new Error("ROOST_BIN must name the roost binary");
    const ready = join(this.#dir, `ready-${process.hrtime.bigint()}`);
    const flags = ["--data", join(this.#dir, "data"), "--listen", this.#listen, "--admin", "127.0.0.1:0", "--ready-file", ready, ...this.#settings];
    const child = spawn(binary, ["serve", ...flags], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (said = (said + data).slice(-8_000)));
    const until = Date.now() + WITHIN_MS;
    while (Date.now() < until && child.exitCode === null) {
      const line = existsSync(ready) ? readFileSync(ready, "utf8") : "";
      if (line.endsWith("\n")) {
        ({ listen: this.#listen, admin: this.#admin } = JSON.parse(line));
        return this;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    child.kill("SIGKILL");
    throw new Error(`the server did not get ready:\n${said}`);
  }

  /** The value of a metric without labels, added up over its lines. */
  async metric(name) {
    const text = await (await fetch(`http://${this.#admin}/metrics`)).text();
    const lines = text.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
    if (lines.length === 0) throw new Error(`there is no metric ${name}`);
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  /** Ends the process at once, as a crash would. */
  async kill() {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async end() {
    await this.kill();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** A guest made over HTTP. */
  async guest(name) {
    const response = await fetch(`${this.url}v1/guest`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name }),
    });
    if (!response.ok) throw new Error(`guest: ${response.status}`);
    return { ...(await response.json()), name };
  }
}

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: BROWSER_FLAGS });
}

/**
 * A person with a browser of their own. What the page itself finds wrong (an exception, a refusal by the content
 * security policy) is collected in `page.faults`.
 */
export async function person(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WITHIN_MS);
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy/i.test(message.text())) page.faults.push(message.text());
  });
  return page;
}

/** Passes the first screen. */
export async function enter(page, url, name) {
  if (url) await page.goto(url);
  await page.fill("#name", name);
  await page.press("#name", "Enter");
  await page.waitForSelector(".chat .sidebar");
  await online(page);
}

/** The list is known: connected and synced. */
export async function online(page) {
  await page.waitForFunction(() => {
    const list = document.querySelector(".list");
    return list && !list.textContent.includes("Loading your") && document.querySelector(".status")?.hidden;
  });
}

/** Starts a chat by searching a person's name. */
export async function chatWith(page, name, user) {
  await page.click("button[aria-label='New conversation']");
  await page.fill("dialog input[type=search]", name);
  await page.click(user ? `dialog .found [data-user="${user}"]` : "dialog .found .row");
  await page.waitForSelector(".thread .composer");
}

export async function say(page, text) {
  await page.fill(".composer textarea", text);
  await page.press(".composer textarea", "Enter");
}

/** The user id of this page's person. */
export function userOf(page, name) {
  return page.evaluate((name) => JSON.parse(localStorage.getItem(`roost.name.${name}`)).user, name);
}

export const openRoom = (page, title) => page.click(`.rooms .row:has(.title:text-is("${title}"))`);
export const bubble = (text) => `.entries .bubble:has(.text:text-is("${text}"))`;
export const tick = (text, state) => `${bubble(text)} .ticks[data-tick="${state}"]`;
export const row = (title) => `.rooms .row:has(.title:text-is("${title}"))`;
/** Texts of the messages drawn, in order. */
export const texts = (page) => page.$$eval(".entries .text", (all) => all.map((one) => one.textContent));

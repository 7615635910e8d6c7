// The page of a load: made by a real run of roost-load, opened in a real browser. ROOST_LOAD_BIN names the program.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { launch } from "./support.js";

/** A desktop, a phone, and the narrowest phones there are. */
const WIDTHS = [1280, 390, 320];

let browser;
let folder;
let report;

before(async () => {
  const binary = process.env.ROOST_LOAD_BIN;
  if (!binary || !existsSync(binary)) throw new Error("ROOST_LOAD_BIN must name the roost-load binary");
  folder = mkdtempSync(join(tmpdir(), "roost-report-"));
  const run = (...args) => execFileSync(binary, args, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  try {
    run("run", "chat-day", "--scale", "0.002", "--for", "12s", "--seed", "7", "--quiet", "--out", folder);
  } catch (error) {
    // A verdict is no fault of the page: what was measured is in it. Wrong usage and a fault of the program are.
    if (![4, 5, 99].includes(error.status)) throw error;
  }
  report = JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
  execFileSync(binary, ["compare", "report.json", "report.json", "--out", folder], { cwd: folder });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Opens a page of the run, and gathers what it asks of the network and what it complains of. */
async function opened(name, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  page.asked = [];
  page.faults = [];
  page.on("request", (request) => page.asked.push(request.url()));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.faults.push(message.text()));
  page.on("pageerror", (error) => page.faults.push(String(error)));
  await page.goto(pathToFileURL(join(folder, name)).href);
  return page;
}

test("a_report_says_first_what_this_machine_carries", async () => {
  const page = await opened("report.html");
  const order = await page.evaluate(() =>
    [...document.querySelectorAll("main > *")].map((element) => element.id || element.className || element.localName),
  );
  assert.deepEqual(order.slice(0, 3), ["header", "answer", "tiles"]);
  const answer = await page.locator("#answer").innerText();
  assert.match(answer, /sessions/);
  assert.match(answer, /break first|its limit/, "what breaks first is said");
  const box = await page.locator("#answer").boundingBox();
  assert.ok(box.y + box.height < 900, "the answer is on the first screen");
  for (const reason of report.reasons) assert.ok(answer.includes(reason), reason);
  await page.close();
});

test("plots_have_their_series_their_phases_and_the_numbers_behind_them", async () => {
  const page = await opened("report.html");
  const series = (id) => page.$$eval(`#${id} svg.wide [data-series]`, (lines) => lines.map((line) => line.dataset.series));
  assert.deepEqual(await series("rate"), ["connected", "sent", "delivered", "acknowledged"].filter((name) =>
    report.series.some((second) => second[name] > 0)));
  assert.deepEqual(await series("latency-over-time"), ["median", "p99", "p99.9"]);
  assert.ok((await series("latency")).includes("delivered"));
  assert.ok((await series("cpu-over-time")).includes("generator"));
  const load = report.phases.filter((phase) => phase.from_s >= 0 && phase.to_s > phase.from_s);
  assert.ok(load.length > 1, "a day has phases");
  const marked = await page.$$eval("#rate svg.wide [data-phase]", (bands) => bands.map((band) => band.dataset.phase));
  for (const phase of load) assert.ok(marked.includes(phase.name), `${phase.name} is not among ${marked}`);
  const parts = await page.$$eval("#memory svg.wide [data-part]", (bars) => bars.length);
  assert.equal(parts, report.server.memory.length);
  for (const id of ["limits", "rate", "latency-over-time", "memory", "cpu"]) {
    assert.ok((await page.locator(`#${id} table tbody tr`).count()) > 0, `${id} has no numbers`);
  }
  const unnamed = await page.$$eval("svg", (plots) => plots.filter((plot) => !plot.getAttribute("aria-label")).length);
  assert.equal(unnamed, 0, "a plot has no text for those who cannot see it");
  await page.close();
});

test("a_line_is_drawn_where_its_numbers_are", async () => {
  const page = await opened("report.html");
  const points = await page.$eval('#rate svg.wide [data-series="delivered"]', (line) =>
    line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number)),
  );
  const seconds = report.series.filter((second) => second.live !== null || second.delivered > 0);
  assert.equal(points.length, seconds.length);
  const most = seconds.reduce((most, second, at) => (second.delivered > seconds[most].delivered ? at : most), 0);
  const highest = points.reduce((high, point, at) => (point[1] < points[high][1] ? at : high), 0);
  assert.equal(highest, most, "the highest point is the busiest second");
  await page.close();
});

test("a_page_asks_nothing_of_the_network_and_needs_no_scripts", async () => {
  for (const name of ["report.html", "compare.html"]) {
    const page = await opened(name, { javaScriptEnabled: false });
    assert.deepEqual(page.asked.filter((url) => !url.startsWith("data:")), [page.url()], name);
    assert.deepEqual(page.faults, [], name);
    assert.ok(await page.locator("#answer").isVisible());
    await page.close();
  }
});

test("nothing_overflows_on_any_screen_or_on_paper", async () => {
  for (const name of ["report.html", "compare.html"]) {
    for (const width of WIDTHS) {
      const page = await opened(name, { viewport: { width, height: 800 } });
      for (const media of width === 1280 ? ["screen", "print"] : ["screen"]) {
        await page.emulateMedia({ media });
        const wide = await page.evaluate(() => {
          const room = document.documentElement.clientWidth;
          const inside = (element) => element.closest(".scroll, pre, .hidden");
          const beyond = [...document.querySelectorAll("main *")].filter(
            (element) => !inside(element) && element.getBoundingClientRect().right > room + 1,
          );
          return { page: document.documentElement.scrollWidth - room, beyond: beyond.map((element) => element.outerHTML.slice(0, 120)) };
        });
        assert.deepEqual(wide, { page: 0, beyond: [] }, `${name} at ${width} on ${media}`);
      }
      await page.close();
    }
  }
});

/** How far apart two colours are, as WCAG 2.2 has it (1.4.3). */
const CONTRAST = () => {
  const channel = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const colour = (text) => text.match(/[\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("h1, h2, h3, p, li, th, td, small, .tile span, .tile b, strong, summary, svg text")) {
    if (!element.textContent.trim()) continue;
    const style = getComputedStyle(element);
    const front = light(colour(element instanceof SVGElement ? style.fill : style.color));
    const back = light(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)}: ${element.localName} ${element.textContent.slice(0, 40)}`);
  }
  return poor;
};

test("text_can_be_read_in_light_and_in_dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const name of ["report.html", "compare.html"]) {
      const page = await opened(name, { colorScheme });
      assert.deepEqual(await page.evaluate(CONTRAST), [], `${name} in ${colorScheme}`);
      await page.close();
    }
  }
});

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { day, hue, initials, lastSeen, links, onlyEmoji } from "../../app/format.js";

const web = fileURLToPath(new URL("../..", import.meta.url));
const sources = ["app", "sdk"].flatMap((dir) => readdirSync(join(web, dir)).filter((name) => name.endsWith(".js")).map((name) => join(web, dir, name)));

test("the_types_of_every_module_hold", () => {
  const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
  try {
    execFileSync(process.execPath, [tsc, "--checkJs", "--noEmit", "-p", web], { stdio: "pipe" });
  } catch (error) {
    assert.fail(String(error.stdout));
  }
});

test("no_module_parses_text_as_markup_and_the_page_obeys_its_policy", () => {
  for (const file of sources) {
    assert.doesNotMatch(readFileSync(file, "utf8"), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser/, file);
  }
  const page = readFileSync(join(web, "index.html"), "utf8");
  assert.doesNotMatch(page, /\sstyle=|\son\w+=|<style|<script(?![^>]*\bsrc=)/i);
});

test("only_http_links_become_links", () => {
  for (const [text, want] of [
    ["see https://a.example/x?y=1, ok", ["see ", { href: "https://a.example/x?y=1", label: "https://a.example/x?y=1" }, ", ok"]],
    ["(http://a.example/b_(c))", ["(", { href: "http://a.example/b_(c)", label: "http://a.example/b_(c)" }, ")"]],
    ["HTTPS://A.EXAMPLE", [{ href: "https://a.example/", label: "HTTPS://A.EXAMPLE" }]],
    ["javascript:alert(1)", ["javascript:alert(1)"]],
    ["data:text/html,https", ["data:text/html,https"]],
    ["http://", ["http://"]],
    ["https://a.example/\"onclick=\"x", [{ href: "https://a.example/", label: "https://a.example/" }, '"onclick="x']],
    ["", []],
  ]) {
    assert.deepEqual(links(text), want, text);
  }
});

test("days_are_told_by_the_calendar", () => {
  const now = new Date(2026, 4, 20, 0, 30).getTime();
  assert.equal(day(now - 60_000, now), "Today");
  assert.equal(day(now - 3_600_000, now), "Yesterday");
  assert.equal(lastSeen(0, now), "offline");
  assert.equal(lastSeen(now - 30_000, now), "last seen just now");
  assert.equal(lastSeen(now - 5 * 60_000, now), "last seen 5 min ago");
});

test("avatars_take_letters_of_any_script", () => {
  for (const [name, want] of [["Ada", "A"], ["ada lovelace", "AL"], ["王 小明", "王小"], ["👩‍🚀 Bob", "👩‍🚀B"], ["  ", "?"]]) {
    assert.equal(initials(name), want, name);
  }
  assert.match(hue("u_x"), /^hue-\d$/);
});

test("a_few_emoji_alone_are_shown_large", () => {
  for (const [text, want] of [["🎉", true], ["🎉👩‍🚀🇩🇪", true], ["🎉🎉🎉🎉", false], ["ok 🎉", false], ["12", false], ["", false]]) {
    assert.equal(onlyEmoji(text), want, text);
  }
});

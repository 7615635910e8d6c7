// How things are written for people.

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const dayYearFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const shortFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** @param {number} ms */
const midnight = (ms) => new Date(ms).setHours(0, 0, 0, 0);

/** Whole days from one moment to another, by the calendar. @param {number} from @param {number} to */
const days = (from, to) => Math.round((midnight(to) - midnight(from)) / 86_400_000);

/** @param {number} ms */
export const time = (ms) => timeFormat.format(ms);

/** @param {number} a @param {number} b */
export const sameDay = (a, b) => midnight(a) === midnight(b);

/** "Today", "Yesterday", "Monday", … @param {number} ms @param {number} [now] */
export function day(ms, now = Date.now()) {
  const ago = days(ms, now);
  if (ago <= 0) return "Today";
  if (ago === 1) return "Yesterday";
  if (ago < 7) return weekdayFormat.format(ms);
  return new Date(ms).getFullYear() === new Date(now).getFullYear() ? dayFormat.format(ms) : dayYearFormat.format(ms);
}

/** For the list: the time today, else the day. @param {number} ms @param {number} [now] */
export function when(ms, now = Date.now()) {
  const ago = days(ms, now);
  if (ago <= 0) return time(ms);
  if (ago === 1) return "Yesterday";
  return ago < 7 ? weekdayFormat.format(ms) : shortFormat.format(ms);
}

/** @param {number} ms 0: unknown @param {number} [now] */
export function lastSeen(ms, now = Date.now()) {
  if (!ms) return "offline";
  const minutes = Math.floor((now - ms) / 60_000);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${minutes} min ago`;
  return days(ms, now) <= 0 ? `last seen today ${time(ms)}` : `last seen ${when(ms, now)} ${time(ms)}`;
}

/** The end of an id: enough to tell two people of one name apart. @param {string} id */
export const shortId = (id) => `#${id.slice(-4)}`;

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** One or two letters for an avatar. @param {string} name */
export function initials(name) {
  const words = name.trim().split(/\s+/u).filter(Boolean);
  const first = (/** @type {string | undefined} */ word) => (word ? [...graphemes.segment(word)][0].segment : "");
  return (first(words[0]) + (words.length > 1 ? first(words.at(-1)) : "")).toLocaleUpperCase() || "?";
}

/** One of ten colours, the same one each time. @param {string} id */
export function hue(id) {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) | 0;
  return `hue-${Math.abs(hash) % 10}`;
}

const LINK = /https?:\/\/[^\s<>"'`\u200b]+/giu;

/**
 * Cuts a text into plain parts and http(s) links.
 * @param {string} text
 * @returns {(string | { href: string, label: string })[]}
 */
export function links(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(LINK)) {
    const label = trimLink(match[0]);
    const href = URL.canParse(label) ? new URL(label) : null;
    if (!href || !/^https?:$/.test(href.protocol) || !href.hostname) continue;
    if (match.index > from) parts.push(text.slice(from, match.index));
    parts.push({ href: href.href, label });
    from = match.index + label.length;
  }
  if (from < text.length) parts.push(text.slice(from));
  return parts;
}

/** Punctuation after a link belongs to the sentence; a bracket belongs to whoever opened it. @param {string} link */
function trimLink(link) {
  for (;;) {
    const cut = link.replace(/[.,;:!?]+$/u, "");
    const open = (cut.match(/\(/g) ?? []).length;
    const closed = (cut.match(/\)/g) ?? []).length;
    if (!(cut.endsWith(")") && closed > open)) return cut;
    link = cut.slice(0, -1);
  }
}

/** Up to three emoji and nothing else. @param {string} text */
export function onlyEmoji(text) {
  const parts = [...graphemes.segment(text.trim())].map((part) => part.segment);
  return parts.length > 0 && parts.length <= 3 && parts.every((part) => /\p{Extended_Pictographic}|\p{Regional_Indicator}/u.test(part));
}

/** @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

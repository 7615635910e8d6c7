// The scrolling part of a conversation. However long the log is, only a window of it is in the page: it grows at the
// end one scrolls to and is cut at the other.

import { bird, fill, gathered, h, icon } from "./dom.js";
import { preview } from "./events.js";
import { entryElement, pendingElement, setTick } from "./message.js";
import { attempt } from "./toasts.js";

/** Entries drawn or asked for at a time. */
const STEP = 60;
/** Most entries in the page. */
const DRAWN_MAX = 240;
/** More is drawn this many pixels before the edge comes into view. */
const MARGIN_PX = 600;
/** Nearer to the end than this counts as being there. */
const END_PX = 60;

export class Messages {
  #client;
  #room;
  /** The drawn seqs, both included; nothing is drawn while `#to < #from`. */
  #from = 1;
  #to = 0;
  #stuck = true;
  #unseen = 0;
  #unreadFrom = 0;
  #loading = false;
  #ready = false;
  /** @type {(() => void)[]} */
  #ends = [];
  #list = h("ol.entries");
  #pending = h("ol.entries.pending");
  #top = h("div.top");
  #announce = h("div.sr", { "aria-live": "polite" });
  #jumpCount = h("span.badge", { hidden: true });
  #jump = h("button.jump", { type: "button", hidden: true, "aria-label": "To the newest message", onclick: () => this.toEnd() }, icon("down"), this.#jumpCount);
  #scroller = h("div.scroller", { tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Messages" }, this.#top, this.#list, this.#pending);
  element = h("div.messages", {}, this.#scroller, this.#jump, this.#announce);
  #names = gathered(() => this.#redraw());

  /**
   * @param {import("../sdk/client.js").Client} client
   * @param {import("../sdk/room.js").Room} room
   */
  constructor(client, room) {
    this.#client = client;
    this.#room = room;
    if (room.unread > 0) this.#unreadFrom = room.log.head - room.unread + 1;
    client.look(room.id, true);
    const mine = (/** @type {() => void} */ run) => (/** @type {any} */ value) => value === room && run();
    this.#ends = [
      client.on("entries", ({ room: of, entries }) => of === room && this.#appended(entries)),
      client.on("reset", mine(() => this.#begin())),
      client.on("reached", mine(() => this.#ticks())),
      client.on("members", mine(() => this.#ticks())),
      client.on("outbox", (conv) => conv === room.id && this.#drawPending()),
      client.on("synced", () => this.#begun()),
      client.people.on("names", this.#names),
    ];
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const seen = () => this.#seen();
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("focus", seen);
    const resized = new ResizeObserver(() => this.#stuck && this.#scrollToEnd());
    resized.observe(this.#scroller);
    this.#ends.push(
      () => document.removeEventListener("visibilitychange", seen),
      () => window.removeEventListener("focus", seen),
      () => resized.disconnect(),
    );
    this.#drawPending();
    this.#begin();
  }

  /** Lets go of everything. */
  end() {
    for (const end of this.#ends) end();
    this.#client.look(this.#room.id, false);
  }

  /** Draws the newest entries and goes there. */
  toEnd() {
    this.#from = Math.max(this.#log.first, this.#log.last - STEP + 1);
    this.#to = this.#log.last;
    this.#redraw();
    this.#stuck = true;
    this.#scrollToEnd();
    this.#scrolled();
  }

  get #log() {
    return this.#room.log;
  }

  /** Draws what is held, and asks for a first screen if that is little. */
  async #begin() {
    this.toEnd();
    await this.#begun();
  }

  async #begun() {
    const log = this.#log;
    if (log.entries.length < STEP && !log.atStart && !this.#loading) {
      this.#loading = true;
      this.#drawTop();
      // Offline it fails in silence: the next sync asks again.
      await log.older(STEP).catch(() => {});
      this.#loading = false;
      if (this.#stuck) this.toEnd();
    }
    this.#ready = log.atStart || log.entries.length > 0;
    this.#drawTop();
  }

  /** @param {number} seq */
  #entry(seq) {
    return this.#log.entries[seq - this.#log.first];
  }

  /** @param {number} from @param {number} to both included */
  #draw(from, to) {
    const everybody = this.#room.everybody(this.#client.me);
    const items = [];
    for (let seq = Math.max(from, this.#log.first); seq <= to; seq++) {
      const entry = this.#entry(seq);
      const look = { tick: tickOf(seq, everybody), unreadFrom: this.#unreadFrom };
      if (entry) items.push(entryElement(this.#client, this.#room, entry, this.#entry(seq - 1), look));
    }
    return items;
  }

  #redraw() {
    const top = this.#scroller.scrollTop;
    fill(this.#list, ...this.#draw(this.#from, this.#to));
    this.#drawTop();
    if (this.#stuck) this.#scrollToEnd();
    else this.#scroller.scrollTop = top;
  }

  #drawTop() {
    const empty = this.#log.last === 0 && this.#client.outbox.of(this.#room.id).length === 0;
    if (this.#loading) fill(this.#top, h("span.loading", { role: "status" }, "Loading…"));
    else if (empty && this.#client.synced) fill(this.#top, bird(), h("p.dim", {}, "Nothing here yet. Say the first word."));
    else if (this.#ready && this.#log.atStart && this.#from <= this.#log.first) fill(this.#top, h("p.dim", {}, "This is where it began."));
    else fill(this.#top);
  }

  #drawPending() {
    const outbox = this.#client.outbox;
    const items = outbox.of(this.#room.id).map((item) =>
      pendingElement(item, { retry: () => outbox.retry(item.cmid), discard: () => outbox.discard(item.cmid) }),
    );
    const more = items.length > this.#pending.childElementCount;
    fill(this.#pending, ...items);
    if (more && this.#to < this.#log.last) this.toEnd();
    else if (more || this.#stuck) this.#scrollToEnd();
    this.#drawTop();
  }

  #ticks() {
    const everybody = this.#room.everybody(this.#client.me);
    for (const place of this.#list.querySelectorAll(".ticks")) {
      setTick(place, tickOf(Number(place.closest("li")?.dataset.seq), everybody));
    }
  }

  /** @param {import("../sdk/wire.js").Entry[]} entries */
  #appended(entries) {
    const atEnd = this.#to === entries[0].seq - 1 || this.#to < this.#from;
    const room = this.#to - this.#from + 1 + entries.length <= DRAWN_MAX * 2;
    if (atEnd && (this.#stuck || room)) {
      if (this.#to < this.#from) this.#from = entries[0].seq;
      this.#to = this.#log.last;
      this.#list.append(...this.#draw(entries[0].seq, this.#to));
    }
    const others = entries.filter((entry) => entry.from !== this.#client.me);
    if (this.#stuck) {
      this.#cutTop();
      this.#scrollToEnd();
    } else {
      this.#unseen += others.length;
    }
    for (const entry of others.slice(-3)) {
      this.#announce.append(h("p", {}, preview(this.#client, this.#room, entry)));
      while (this.#announce.childElementCount > 5) this.#announce.firstElementChild?.remove();
    }
    this.#ticks();
    this.#drawTop();
    this.#drawJump();
    this.#seen();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    this.#stuck = below < END_PX && this.#to >= this.#log.last;
    if (scrollTop < MARGIN_PX) this.#growUp();
    if (below < MARGIN_PX && this.#to < this.#log.last) this.#growDown();
    this.#drawJump();
    this.#seen();
  }

  async #growUp() {
    const log = this.#log;
    if (this.#from <= log.first) {
      if (log.atStart || this.#loading || !this.#ready || !this.#client.synced) return;
      this.#loading = true;
      this.#drawTop();
      await attempt(() => log.older(STEP));
      this.#loading = false;
      this.#drawTop();
      if (this.#from <= log.first) return;
    }
    const old = this.#from;
    this.#from = Math.max(log.first, old - STEP);
    const { scrollHeight, scrollTop } = this.#scroller;
    this.#list.firstElementChild?.remove(); // drawn again: now the entry before it is known
    this.#list.prepend(...this.#draw(this.#from, old));
    this.#drawTop();
    this.#scroller.scrollTop = scrollTop + this.#scroller.scrollHeight - scrollHeight;
    this.#cutBottom();
  }

  #growDown() {
    const from = this.#to + 1;
    this.#to = Math.min(this.#log.last, this.#to + STEP);
    this.#list.append(...this.#draw(from, this.#to));
    this.#cutTop();
  }

  #cutTop() {
    const extra = this.#to - this.#from + 1 - DRAWN_MAX;
    if (extra <= 0) return;
    const { scrollHeight, scrollTop } = this.#scroller;
    for (let count = 0; count < extra; count++) this.#list.firstElementChild?.remove();
    this.#from += extra;
    this.#scroller.scrollTop = scrollTop - (scrollHeight - this.#scroller.scrollHeight);
  }

  #cutBottom() {
    const extra = this.#to - this.#from + 1 - DRAWN_MAX;
    for (let count = 0; count < extra; count++) this.#list.lastElementChild?.remove();
    if (extra > 0) this.#to -= extra;
  }

  #scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #drawJump() {
    if (this.#stuck) this.#unseen = 0;
    this.#jump.hidden = this.#stuck;
    this.#jumpCount.hidden = this.#unseen === 0;
    fill(this.#jumpCount, this.#unseen);
  }

  /** What a person had before the eyes counts as read. */
  #seen() {
    if (this.#stuck && document.visibilityState === "visible" && document.hasFocus()) {
      this.#client.read(this.#room.id, this.#log.last);
    }
  }
}

/**
 * @param {number} seq
 * @param {{ delivered: number, read: number }} everybody
 * @returns {import("./message.js").Tick}
 */
function tickOf(seq, everybody) {
  return seq <= everybody.read ? "read" : seq <= everybody.delivered ? "delivered" : "sent";
}

// The whole client: one user on one connection, with conversations, outbox, marks and people.

import { RoostError } from "./codes.js";
import { Connection } from "./connection.js";
import { Credentials } from "./credentials.js";
import { Emitter } from "./emitter.js";
import { systemEnv } from "./env.js";
import { CATCH_UP_ENTRIES_MAX, Log } from "./log.js";
import { Marks } from "./marks.js";
import { Outbox } from "./outbox.js";
import { People } from "./people.js";
import { Reached } from "./reached.js";
import { Room, TYPING_MS } from "./room.js";
import { memoryStorage } from "./storage.js";

/** @typedef {import("./wire.js").Entry} Entry */
/** @typedef {import("./wire.js").Frame} Frame */

const ROWS_PER_SYNC = 200;
/** Entries kept of a conversation nobody looks at. */
const QUIET_ENTRIES_MAX = 300;
/** TYPING is repeated at most this often. */
const TYPING_EVERY_MS = 3_000;
/** What the server refused for a passing reason is asked for again after this long. */
const PAUSE_MS = 2_000;

/**
 * Events:
 * `state` (ConnectionState), `identity` (Identity: keep it), `rooms` () the list or a row changed,
 * `entries` ({ room, entries }) in order and each once, `reset` (Room) its window was dropped,
 * `reached` (Room), `typing` (Room), `members` (Room), `outbox` (conv), `failed` (Item), `synced` (), `error` (RoostError).
 */
export class Client extends Emitter {
  /** @type {Map<string, Room>} */
  rooms = new Map();
  #env;
  #credentials;
  #connection;
  #marks;
  #reached;
  #sync = "";
  #syncedOnce = false;
  #syncing = false;
  #syncAgain = false;
  /** @type {Map<string, number>} when TYPING was last sent, by conversation */
  #typed = new Map();
  /** Conversations somebody looks at: their whole window is kept. @type {Set<string>} */
  #looked = new Set();

  /**
   * @param {object} options
   * @param {string} options.base where the server is, for example "https://chat.example/"
   * @param {import("./identity.js").Identity} options.identity
   * @param {string} options.device names this installation; a second connection of the same device replaces the first
   * @param {import("./storage.js").Storage} [options.storage] where unacknowledged messages survive; memory by default
   * @param {import("./env.js").Env} [options.env]
   */
  constructor({ base, identity, device, storage = memoryStorage(), env = systemEnv }) {
    super();
    this.#env = env;
    this.#credentials = new Credentials(env, base, identity, (identity) => this.emit("identity", identity));
    const socket = new URL("ws", base);
    socket.protocol = socket.protocol === "https:" ? "wss:" : "ws:";
    this.#connection = new Connection({
      env,
      url: socket.href,
      device,
      credentials: { token: (expired) => this.#credentials.token(expired), sync: () => this.#sync },
    });
    this.people = new People((body) => this.request(body), (run, ms) => this.#later(run, ms));
    this.people.learn(identity.user, identity.name);
    this.#marks = new Marks(env, (body) => this.#connection.online && (this.#connection.post(body), true));
    this.#reached = new Reached(env, storage, identity.user);
    this.outbox = new Outbox({
      env,
      storage,
      user: identity.user,
      send: (item) => this.#send(item),
      seenOf: (conv) => this.rooms.get(conv)?.log.head ?? 0,
    });
    this.outbox.on("changed", (conv) => this.emit("outbox", conv));
    this.outbox.on("failed", (item) => this.emit("failed", item));
    this.#connection.on("state", (state) => this.#stateChanged(state));
    this.#connection.on("welcome", (welcome) => this.#welcomed(welcome));
    this.#connection.on("push", (frame) => this.#pushed(frame));
  }

  get identity() {
    return this.#credentials.identity;
  }

  /** The user's own id. */
  get me() {
    return this.identity.user;
  }

  get state() {
    return this.#connection.state;
  }

  /** True once the list of conversations is known. */
  get synced() {
    return this.#syncedOnce;
  }

  start() {
    this.#connection.start();
  }

  /** Leaves. Unsent messages stay in storage. */
  stop() {
    this.#connection.stop();
    this.#marks.stop();
    this.#reached.stop();
    this.#credentials.stop();
    for (const room of this.rooms.values()) for (const timer of room.typing.values()) this.#env.clearTimer(timer);
  }

  /** Try to connect now rather than later. */
  nudge() {
    this.#connection.nudge();
  }

  /**
   * Any command of the protocol; the typed methods below cover the usual ones.
   * @param {object} body
   * @returns {Promise<Frame>} rejects with a RoostError
   */
  request(body) {
    return this.#connection.request(body);
  }

  // ---- messages ------------------------------------------------------------------------------------------------------

  /** Says something. It is kept and resent until acknowledged. @param {string} conv @param {string} text */
  say(conv, text) {
    return this.outbox.push(conv, { text });
  }

  /** Tells the server now what was gathered: call it when the page is hidden or left. */
  flush() {
    this.#marks.flush();
  }

  /** The user has seen everything up to `seq`. @param {string} conv @param {number} seq */
  read(conv, seq) {
    this.#marks.read(conv, seq);
    const room = this.rooms.get(conv);
    if (room && seq >= room.log.last && room.unread !== 0) {
      room.unread = 0;
      this.emit("rooms");
    }
  }

  /** The user types, or stopped. @param {string} conv @param {boolean} on */
  typing(conv, on) {
    const last = this.#typed.get(conv);
    if (!on && last === undefined) return;
    if (on && last !== undefined && this.#env.now() - last < TYPING_EVERY_MS) return;
    if (on) this.#typed.set(conv, this.#env.now());
    else this.#typed.delete(conv);
    this.#connection.post({ typing: { conv, on } });
  }

  /** While a conversation is looked at its whole window is kept in memory. @param {string} conv @param {boolean} on */
  look(conv, on) {
    if (on) this.#looked.add(conv);
    else this.#looked.delete(conv);
    if (!on) this.rooms.get(conv)?.log.trim(QUIET_ENTRIES_MAX);
  }

  // ---- conversations -------------------------------------------------------------------------------------------------

  /** The conversation with one other user; the same one each time. @param {string} user */
  async direct(user) {
    return this.#conversation({ create: { kind: "direct", members: [user] } });
  }

  /** @param {string} name @param {string[]} members @param {boolean} open anybody who knows the id may join */
  async group(name, members, open) {
    return this.#conversation({ create: { kind: "group", name, members, ...(open ? { open } : {}) } });
  }

  /** @param {string} conv */
  async join(conv) {
    const frame = await this.request({ join: { conv } });
    return frame.conversation ? this.#learn(frame.conversation) : this.load(conv);
  }

  /** Asks for members and settings. @param {string} conv */
  async load(conv) {
    return this.#conversation({ get: { conv } });
  }

  /** @param {string} conv @param {{ name?: string, open?: boolean }} change */
  async update(conv, change) {
    const frame = await this.request({ update: { conv, ...change } });
    return frame.conversation ? this.#learn(frame.conversation) : this.load(conv);
  }

  /** @param {string} conv @param {{ add?: string[], remove?: string[], roles?: { user: string, role: string }[] }} change */
  async members(conv, change) {
    const frame = await this.request({ members: { conv, ...change } });
    return frame.conversation ? this.#learn(frame.conversation) : this.load(conv);
  }

  /** @param {string} conv */
  async leave(conv) {
    await this.request({ leave: { conv } });
    const room = this.rooms.get(conv);
    if (room) room.left = true;
    this.emit("rooms");
  }

  /**
   * People whose display name begins so, or whose id this is.
   * @param {string} prefix
   * @param {number} [limit]
   */
  async search(prefix, limit = 20) {
    const frame = await this.request({ search: { prefix, limit } });
    const users = frame.users?.users ?? [];
    for (const { user, name } of users) this.people.learn(user, name);
    return users;
  }

  /** @param {object} body @returns {Promise<Room>} */
  async #conversation(body) {
    const frame = await this.request(body);
    if (!frame.conversation) throw new RoostError(500, "the reply was no conversation");
    return this.#learn(frame.conversation);
  }

  // ---- session -------------------------------------------------------------------------------------------------------

  /** @param {import("./connection.js").ConnectionState} state */
  #stateChanged(state) {
    if (state.name !== "online") {
      this.outbox.close();
      this.people.unknown();
      for (const room of this.rooms.values()) {
        for (const timer of room.typing.values()) this.#env.clearTimer(timer);
        if (room.typing.size > 0) (room.typing.clear(), this.emit("typing", room));
      }
    }
    this.emit("state", state);
  }

  /** @param {import("./wire.js").Welcome} welcome */
  async #welcomed(welcome) {
    this.#credentials.set({
      user: welcome.user,
      name: welcome.name || this.identity.name,
      token: welcome.token || this.identity.token,
      expires: welcome.expires || this.identity.expires,
    });
    this.#credentials.renewLater((token) => this.request({ refresh: { token } }));
    this.#typed.clear();
    this.people.again();
    this.#marks.again();
    for (const room of this.rooms.values()) room.log.fill();
    // The outbox needs the heads for nothing: `seen` may be too low, never too high.
    this.outbox.open();
    if (!(welcome.fresh && this.#syncedOnce)) await this.#synchronise();
    else this.emit("synced");
  }

  /** Lists what changed since the token held, page by page. Called while it runs, it runs once more. */
  async #synchronise() {
    if (this.#syncing) return void (this.#syncAgain = true);
    this.#syncing = true;
    try {
      do {
        this.#syncAgain = false;
        let more = true;
        while (more) {
          const frame = await this.request({ sync: { since: this.#sync, limit: ROWS_PER_SYNC } });
          const changed = frame.changed ?? {};
          this.#rows(changed.rows ?? [], !this.#syncedOnce);
          const moved = changed.sync !== undefined && changed.sync !== this.#sync;
          if (changed.sync !== undefined) this.#sync = changed.sync;
          more = (changed.more ?? false) && moved;
        }
        this.#syncedOnce = true;
      } while (this.#syncAgain);
      this.emit("synced");
    } catch (error) {
      if (error instanceof RoostError && !error.outcomeUnknown) {
        this.emit("error", error);
        if (error.retryable) this.#later(() => this.#synchronise());
      }
    } finally {
      this.#syncing = false;
    }
  }

  /** @param {() => void} run what is done after a pause, if connected then @param {number} [ms] the least pause */
  #later(run, ms = 0) {
    this.#env.setTimer(() => this.#connection.online && run(), Math.max(ms, PAUSE_MS));
  }

  // ---- what comes in -------------------------------------------------------------------------------------------------

  /** @param {Frame} frame */
  #pushed(frame) {
    if (frame.entry) this.#entry(frame.entry);
    else if (frame.receipt) this.#receipt(frame.receipt);
    else if (frame.typing) this.#someoneTypes(frame.typing);
    else if (frame.presence) this.people.heard(frame.presence.users);
    else if (frame.conversation) this.#learn(frame.conversation);
    else if (frame.changed) this.#hints(frame.changed);
    else if (frame.error) this.emit("error", RoostError.of(frame.error));
  }

  /** @param {Entry} entry */
  #entry(entry) {
    let room = this.rooms.get(entry.conv);
    if (!room) {
      // New to this client: delivery begins here, the row tells the rest.
      room = this.#room(entry.conv, entry.seq - 1);
      this.#synchronise();
    }
    room.log.offer(entry);
  }

  /** @param {import("./wire.js").Changed} changed */
  #hints(changed) {
    this.#rows(changed.rows ?? [], false);
    if (changed.more || (changed.rows ?? []).length === 0) this.#synchronise();
  }

  /**
   * @param {import("./wire.js").Row[]} rows
   * @param {boolean} first the first list ever: what it shows is the past, and delivery begins after it
   */
  #rows(rows, first) {
    for (const row of rows) {
      if (row.left) {
        const gone = this.rooms.get(row.conv);
        if (gone) gone.left = true;
        continue;
      }
      const head = row.head ?? 0;
      const missed = head - (row.delivered ?? 0);
      const base = first || missed > CATCH_UP_ENTRIES_MAX ? head : (row.delivered ?? 0);
      const room = this.rooms.get(row.conv) ?? this.#room(row.conv, base);
      room.kind = row.kind ?? room.kind;
      if (row.name !== undefined) room.name = row.name;
      room.role = row.role ?? room.role;
      room.left = false;
      if (row.peer) {
        room.peer = row.peer.user;
        room.reach(row.peer.user, row.peer.delivered, row.peer.read);
        this.people.learn(row.peer.user, row.peer.name);
      }
      if (row.last && row.last.seq >= (room.last?.seq ?? 0)) room.last = row.last;
      this.#marks.known(row.conv, row.delivered ?? 0, row.read ?? 0);
      room.log.reaches(head);
      if (first) this.#marks.ack(row.conv, head);
      const read = this.#marks.readOf(row.conv);
      room.unread = read >= head ? 0 : Math.min(row.unread ?? 0, head - read);
    }
    if (rows.length > 0) this.emit("rooms");
  }

  /** @param {import("./wire.js").Conversation} conversation @returns {Room} */
  #learn(conversation) {
    const room = this.rooms.get(conversation.conv) ?? this.#room(conversation.conv, conversation.head ?? 0);
    room.kind = conversation.kind;
    room.name = conversation.name ?? "";
    room.open = conversation.open ?? false;
    room.members = conversation.members ?? [];
    for (const { user, name, delivered, read } of room.members) {
      this.people.learn(user, name);
      room.reach(user, delivered, read);
    }
    const mine = room.members.find((member) => member.user === this.me);
    if (mine) {
      room.role = mine.role;
      room.left = false;
    }
    if (room.kind === "direct") room.peer ??= room.members.find((member) => member.user !== this.me)?.user;
    room.log.reaches(conversation.head ?? 0);
    this.emit("members", room);
    this.emit("rooms");
    return room;
  }

  /** @param {string} conv @param {number} last */
  #room(conv, last) {
    /** @type {Room} */
    const room = new Room(
      conv,
      this.#env.now(),
      new Log(last, {
        fetch: async (query) => {
          const frame = await this.request({ history: { conv, ...query } });
          return frame.page ?? { conv };
        },
        appended: (entries) => this.#appended(room, entries),
        loaded: (entries) => this.#loaded(room, entries),
        reset: () => {
          this.outbox.settleSent(conv);
          this.emit("reset", room);
        },
      }),
    );
    for (const [user, { delivered, read }] of this.#reached.of(conv)) room.reach(user, delivered, read);
    this.rooms.set(conv, room);
    return room;
  }

  /** @param {Room} room @param {Entry[]} entries */
  #appended(room, entries) {
    const read = this.#marks.readOf(room.id);
    for (const entry of entries) {
      if (entry.seq > (room.last?.seq ?? 0)) {
        // A row may have counted it before the entry came.
        room.last = entry;
        if (entry.from !== this.me && entry.seq > read) room.unread += 1;
      }
      if (entry.from === this.me) {
        // Whoever writes has read what was before; the server counts alike.
        this.#marks.known(room.id, entry.seq, entry.seq);
        room.unread = 0;
      }
      if (entry.body?.event) this.#event(room, entry.from, entry.body.event);
      this.#stopsTyping(room, entry.from);
    }
    this.#loaded(room, entries);
    this.#marks.ack(room.id, room.log.last);
    if (!this.#looked.has(room.id)) room.log.trim(QUIET_ENTRIES_MAX);
    this.emit("entries", { room, entries });
    this.emit("rooms");
  }

  /** Whoever writes has read what was before; what the log has need not be sent. @param {Room} room @param {Entry[]} entries */
  #loaded(room, entries) {
    for (const { from, seq, cmid } of entries) {
      if (from !== this.me) room.reach(from, seq, seq);
      else if (cmid) this.outbox.settle(cmid);
    }
  }

  /** @param {Room} room @param {string} from @param {import("./wire.js").Event} event */
  #event(room, from, event) {
    const users = event.users ?? [];
    const mine = users.includes(this.me) || (users.length === 0 && from === this.me);
    if (event.kind === "renamed" && event.name !== undefined) room.name = event.name;
    if (event.kind === "removed" || event.kind === "left") room.left = room.left || mine;
    if ((event.kind === "added" || event.kind === "joined") && mine) room.left = false;
    if (room.members && !room.left) this.load(room.id).catch(() => {}); // the list is asked for anew
  }

  /** @param {import("./wire.js").Receipt} receipt */
  #receipt(receipt) {
    const room = this.rooms.get(receipt.conv);
    if (!room) return;
    if (receipt.user !== this.me) {
      room.reach(receipt.user, receipt.delivered, receipt.read);
      this.#reached.keep(room.id, room.reached);
      return this.emit("reached", room);
    }
    // Another device of this user read something.
    this.#marks.known(receipt.conv, receipt.delivered ?? 0, receipt.read ?? 0);
    room.unread = Math.min(room.unread, Math.max(0, room.log.head - (receipt.read ?? 0)));
    this.emit("rooms");
  }

  /** @param {import("./wire.js").Typing} typing */
  #someoneTypes({ conv, user, on }) {
    const room = this.rooms.get(conv);
    if (!room || !user || user === this.me) return;
    if (!on) return this.#stopsTyping(room, user);
    this.#env.clearTimer(room.typing.get(user));
    room.typing.set(user, this.#env.setTimer(() => this.#stopsTyping(room, user), TYPING_MS));
    this.emit("typing", room);
  }

  /** @param {Room} room @param {string} user */
  #stopsTyping(room, user) {
    if (!room.typing.has(user)) return;
    this.#env.clearTimer(room.typing.get(user));
    room.typing.delete(user);
    this.emit("typing", room);
  }

  /** @param {import("./outbox.js").Item} item @returns {Promise<import("./wire.js").Sent>} */
  async #send(item) {
    const { conv, cmid, body, attempt, seen } = item;
    /** @type {Record<string, unknown>} */
    const send = { conv, cmid, body };
    if (attempt > 0) Object.assign(send, { attempt, seen });
    const frame = await this.request({ send });
    if (!frame.sent) throw RoostError.lost("the reply was no SENT");
    const { seq, ts } = frame.sent;
    this.#typed.delete(conv);
    const entry = { conv, seq, from: this.me, cmid, ts, body };
    const { log } = this.rooms.get(conv) ?? this.#room(conv, seq - 1);
    log.offer(entry);
    // SYNC may have told of it before: then the log begins with it, or behind it, and never takes it in as new.
    if (log.last >= seq) this.outbox.settle(cmid);
    return frame.sent;
  }
}

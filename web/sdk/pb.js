// The protobuf form of frames, as WebTransport carries them: what JSON names by words, by numbers (protobuf.dev, "Encoding").

/** Fields of each message of wire/proto/roost.proto: name, number, kind; `*` where there may be many. Others have none. */
export const SCHEMA = `
  Frame: rid 1 uint, hello 10 Hello, connect 11 Connect, welcome 12 Welcome, refresh 13 Refresh, ping 14 Ping,
    pong 15 Pong, goaway 16 Goaway, ok 18 Ok, error 19 Error, send 30 Send, sent 31 Sent, entry 32 Entry, ack 50 Ack,
    read 51 Read, receipt 52 Receipt, typing 53 Typing, watch 60 Watch, unwatch 61 Unwatch, presence 62 Presence,
    create 70 Create, get 71 Get, conversation 72 Conversation, update 73 Update, members 74 Members, join 75 Join,
    leave 76 Leave, sync 90 Sync, changed 91 Changed, history 92 History, page 93 Page, subscribe 100 Subscribe,
    unsubscribe 101 Unsubscribe, publish 102 Publish, search 110 Search, users 111 Users
  Hello: node 1 string, protocol 2 string, connect_within_ms 3 uint
  Connect: token 1 string, guest 2 string, device 3 string, sync 4 string
  Welcome: user 1 string, device 2 string, session 3 string, token 4 string, expires 5 uint, heartbeat_ms 6 uint,
    fresh 7 bool, sync 8 string, limits 9 Limits, name 10 string
  Limits: frame_bytes 1 uint, commands_in_flight 2 uint, sends_per_second 3 uint, text_bytes 4 uint, members 5 uint
  Refresh: token 1 string
  Goaway: reason 1 string, deadline_ms 2 uint, slot_ms 3 uint, urls 4 string*
  Error: code 1 uint, message 2 string, retryable 3 bool, retry_after_ms 4 uint
  Body: text 1 string, event 2 Event
  Event: kind 1 EventKind, users 2 string*, name 3 string, role 4 Role
  Send: conv 1 string, cmid 2 string, body 3 Body, attempt 4 uint, seen 5 uint
  Sent: conv 1 string, seq 2 uint, ts 3 uint, dup 4 bool
  Entry: conv 1 string, seq 2 uint, from 3 string, cmid 4 string, ts 5 uint, body 6 Body
  Ack: conv 1 string, seq 2 uint
  Read: conv 1 string, seq 2 uint
  Receipt: conv 1 string, user 2 string, delivered 3 uint, read 4 uint
  Typing: conv 1 string, user 2 string, on 3 bool
  Watch: users 1 string*
  Unwatch: users 1 string*
  Presence: users 1 UserPresence*
  UserPresence: user 1 string, online 2 bool, last_seen 3 uint
  Create: kind 1 Kind, name 2 string, members 3 string*, open 4 bool
  Get: conv 1 string
  Conversation: conv 1 string, kind 2 Kind, name 3 string, head 4 uint, members 5 Member*, open 6 bool
  Member: user 1 string, role 2 Role, name 3 string, delivered 4 uint, read 5 uint
  Update: conv 1 string, name 2 string, open 3 bool
  Members: conv 1 string, add 2 string*, remove 3 string*, roles 4 Member*
  Join: conv 1 string
  Leave: conv 1 string
  Sync: since 1 string, limit 2 uint
  Changed: rows 1 Row*, sync 2 string, more 3 bool
  Row: conv 1 string, kind 2 Kind, name 3 string, head 4 uint, read 5 uint, delivered 6 uint, unread 7 uint,
    last 8 Entry, role 9 Role, peer 10 Member, left 11 bool
  History: conv 1 string, after 2 uint, before 3 uint, limit 4 uint
  Page: conv 1 string, entries 2 Entry*, head 3 uint
  Subscribe: channel 1 string
  Unsubscribe: channel 1 string
  Publish: channel 1 string, body 2 Body, cmid 3 string, attempt 4 uint, seen 5 uint
  Search: prefix 1 string, limit 2 uint
  Users: users 1 User*
  User: user 1 string, name 2 string, last_seen 3 uint
`;
/** What the values of an enum are in JSON, from 1. */
export const ENUMS = {
  EventKind: ["added", "removed", "joined", "left", "renamed", "role_changed"],
  Kind: ["direct", "group", "channel"],
  Role: ["owner", "admin", "member"],
};
/** Messages lie within each other at most so deep. */
const DEPTH_MAX = 8;
/** Wire types. */
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];

/** @typedef {{ name: string, number: number, kind: string, many: boolean }} Field */

/** @type {Map<string, Field[]>} */
const FIELDS = new Map();
for (const [, message, fields] of SCHEMA.matchAll(/(\w+):([^:]*)(?=\n {2}\w|$)/g)) {
  const read = (/** @type {string} */ field) => {
    const [name, number, kind] = field.trim().split(" ");
    return { name, number: Number(number), kind: kind.replace("*", ""), many: kind.endsWith("*") };
  };
  FIELDS.set(message, fields.split(",").map(read));
}

/** @param {string} kind @returns {string[] | undefined} */
const valuesOf = (kind) => /** @type {Record<string, string[]>} */ (ENUMS)[kind];
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** @param {number[]} out @param {number} value */
function putVarint(out, value) {
  while (value > 127) {
    out.push((value % 128) | 128);
    value = Math.floor(value / 128);
  }
  out.push(value);
}

/** @param {number[]} out @param {ArrayLike<number>} bytes */
function putBytes(out, bytes) {
  putVarint(out, bytes.length);
  for (let at = 0; at < bytes.length; at++) out.push(bytes[at]);
}

/** @param {number[]} out @param {Field} field @param {any} value */
function putField(out, { number, kind }, value) {
  const values = valuesOf(kind);
  const isVarint = kind === "uint" || kind === "bool" || values;
  putVarint(out, number * 8 + (isVarint ? VARINT : BYTES));
  if (values) putVarint(out, values.indexOf(value) + 1);
  else if (isVarint) putVarint(out, Number(value));
  else putBytes(out, kind === "string" ? encoder.encode(value) : encode(kind, value));
}

/**
 * The bytes of a message. Fields that the schema does not have are left out.
 * @param {string} message its name
 * @param {any} value as in JSON
 * @returns {number[]}
 */
function encode(message, value) {
  /** @type {number[]} */
  const out = [];
  for (const field of FIELDS.get(message) ?? []) {
    const held = value[field.name];
    if (held === undefined || held === null) continue;
    for (const one of field.many ? held : [held]) putField(out, field, one);
  }
  return out;
}

/**
 * A frame with its length before it.
 * @param {object} frame as in JSON
 */
export function encodeFrame(frame) {
  /** @type {number[]} */
  const out = [];
  putBytes(out, encode("Frame", frame));
  return Uint8Array.from(out);
}

/** Reads on from `at`, and never beyond `end`. */
class Reader {
  /** @param {Uint8Array} bytes @param {number} at @param {number} end */
  constructor(bytes, at, end) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  /** Numbers above 2^53 lose their last digits, as in JSON. */
  varint() {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (this.at >= this.end || scale > 2 ** 63) throw new RangeError("a varint has no end");
      const byte = this.bytes[this.at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  /** @param {number} length @returns {Reader} */
  take(length) {
    const to = this.at + length;
    if (to > this.end) throw new RangeError("a field is longer than its message");
    const taken = new Reader(this.bytes, this.at, to);
    this.at = to;
    return taken;
  }

  text() {
    return decoder.decode(this.bytes.subarray(this.at, this.end));
  }
}

/** @param {Reader} reader @param {number} type */
function skip(reader, type) {
  if (type === VARINT) reader.varint();
  else if (type === FIXED64) reader.take(8);
  else if (type === BYTES) reader.take(reader.varint());
  else if (type === FIXED32) reader.take(4);
  else throw new RangeError(`there is no wire type ${type}`);
}

/** @param {string} message @param {Reader} reader @param {number} depth @returns {any} */
function decode(message, reader, depth) {
  if (depth > DEPTH_MAX) throw new RangeError("messages lie too deep");
  /** @type {Record<string, any>} */
  const value = {};
  while (reader.at < reader.end) {
    const tag = reader.varint();
    const [number, type] = [Math.floor(tag / 8), tag % 8];
    const field = FIELDS.get(message)?.find((field) => field.number === number);
    const isVarint = field && (field.kind === "uint" || field.kind === "bool" || valuesOf(field.kind));
    if (!field || type !== (isVarint ? VARINT : BYTES)) {
      skip(reader, type); // newer than this page
      continue;
    }
    const one = isVarint ? scalar(field.kind, reader.varint()) : inner(field.kind, reader.take(reader.varint()), depth);
    if (field.many) (value[field.name] ??= []).push(one);
    else value[field.name] = one;
  }
  return value;
}

/** @param {string} kind @param {number} number */
function scalar(kind, number) {
  if (kind === "uint") return number;
  return kind === "bool" ? number !== 0 : valuesOf(kind)?.[number - 1];
}

/** @param {string} kind @param {Reader} reader @param {number} depth */
function inner(kind, reader, depth) {
  return kind === "string" ? reader.text() : decode(kind, reader, depth + 1);
}

/** Cuts a stream of bytes into frames. */
export class Frames {
  #bytes = new Uint8Array(0);
  #bytesMax;

  /** @param {number} bytesMax most of a frame */
  constructor(bytesMax) {
    this.#bytesMax = bytesMax;
  }

  /**
   * The frames that are whole once `chunk` has come. Throws a RangeError at what is none: nothing behind can be read.
   * @param {Uint8Array} chunk
   * @returns {import("./wire.js").Frame[]}
   */
  push(chunk) {
    const bytes = new Uint8Array(this.#bytes.length + chunk.length);
    bytes.set(this.#bytes);
    bytes.set(chunk, this.#bytes.length);
    const frames = [];
    let from = 0;
    for (;;) {
      const head = lengthAt(bytes, from);
      if (head && head.length > this.#bytesMax) throw new RangeError(`a frame of ${head.length} bytes`);
      if (!head || head.at + head.length > bytes.length) break;
      from = head.at + head.length;
      frames.push(decode("Frame", new Reader(bytes, head.at, from), 0));
    }
    this.#bytes = bytes.slice(from);
    return frames;
  }
}

/** The length that stands at `from`, and where what it counts begins; null if it is not whole. */
function lengthAt(/** @type {Uint8Array} */ bytes, /** @type {number} */ from) {
  const last = bytes.subarray(from, from + 10).findIndex((byte) => byte < 128);
  if (last < 0 && bytes.length - from < 10) return null;
  const reader = new Reader(bytes, from, last < 0 ? from + 10 : from + last + 1);
  return { length: reader.varint(), at: reader.at };
}

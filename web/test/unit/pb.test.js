import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ENUMS, Frames, SCHEMA, encodeFrame } from "../../sdk/pb.js";

const proto = readFileSync(new URL("../../../wire/proto/roost.proto", import.meta.url), "utf8").replace(/\/\/.*/g, "");

test("the_schema_of_the_page_is_that_of_the_server", () => {
  const flat = proto.replace(/oneof body \{([^}]*)\}/, "$1");
  const messages = [...flat.matchAll(/message (\w+) \{([^}]*)\}/g)];
  const lines = messages.map(([, name, body]) => {
    const fields = [...body.matchAll(/(repeated )?(?:optional )?(\w+) (\w+) = (\d+);/g)].map(
      ([, many, kind, field, number]) => `${field} ${number} ${kind.replace(/uint(32|64)/, "uint")}${many ? "*" : ""}`,
    );
    return fields.length > 0 ? `${name}: ${fields.join(", ")}` : "";
  });
  assert.ok(messages.length > 30);
  const plain = SCHEMA.trim().replace(/\n {4}/g, " ").replace(/\n {2}/g, "\n");
  assert.equal(plain, lines.filter(Boolean).join("\n"));
  for (const [, name, body] of proto.matchAll(/enum (\w+) \{([^}]*)\}/g)) {
    const values = [...body.matchAll(/(\w+) = (\d+);/g)].filter(([, , number]) => number !== "0");
    assert.deepEqual(ENUMS[name], values.map(([, value]) => value.toLowerCase()), name);
    assert.deepEqual(values.map(([, , number]) => Number(number)), values.map((_, at) => at + 1), name);
  }
});

const FRAMES = [
  { rid: 1, connect: { token: "t", device: "d" } },
  { ping: {} },
  { rid: 300, history: { conv: "c_1", after: 0, limit: 50 } },
  { rid: 2, create: { kind: "direct", members: ["u_1", "u_2"] } },
  { entry: { conv: "c", seq: 2 ** 40 + 3, from: "u", ts: 1_790_000_000_123, body: { text: "grüß dich 🐦" } } },
  { entry: { conv: "c", seq: 3, body: { event: { kind: "role_changed", users: ["u"], role: "admin" } } } },
  { changed: { rows: [{ conv: "c", kind: "group", unread: 2, last: { conv: "c", seq: 1 } }, { conv: "d", left: true }], more: false } },
];

test("frames_come_out_as_they_went_in_wherever_the_stream_is_cut", () => {
  const stream = Buffer.concat(FRAMES.map(encodeFrame));
  for (let size = 1; size <= stream.length; size++) {
    const [frames, got] = [new Frames(1000), []];
    for (let at = 0; at < stream.length; at += size) got.push(...frames.push(stream.subarray(at, at + size)));
    assert.deepEqual(got, FRAMES, `in pieces of ${size}`);
  }
});

test("the_documented_bytes_are_understood", () => {
  // A PING with rid 7 and a TYPING, as protobuf's own compiler writes them.
  const [frames] = [new Frames(100)];
  assert.deepEqual(frames.push(Uint8Array.from([4, 0x08, 7, 0x72, 0])), [{ rid: 7, ping: {} }]);
  assert.deepEqual(frames.push(Uint8Array.from([8, 0xaa, 3, 5, 0x0a, 1, 99, 0x18, 1])), [{ typing: { conv: "c", on: true } }]);
  assert.deepEqual([...encodeFrame({ typing: { conv: "c", on: true } })], [8, 0xaa, 3, 5, 0x0a, 1, 99, 0x18, 1]);
});

test("what_is_newer_than_the_page_is_passed_over", () => {
  const unknown = [0xf8, 0x7f, 1, 0xf9, 0x7f, ...Array(8).fill(0), 0xfd, 0x7f, ...Array(4).fill(0), 0xfa, 0x7f, 1, 9];
  assert.deepEqual(new Frames(100).push(Uint8Array.from([unknown.length + 2, ...unknown, 0x08, 5])), [{ rid: 5 }]);
  // A kind of this page's with another wire type, and a value of an enum that it does not know.
  assert.deepEqual(new Frames(100).push(Uint8Array.from([3, 0x0a, 1, 9])), [{}]);
  assert.deepEqual(new Frames(100).push(Uint8Array.from([5, 0xb2, 4, 2, 0x08, 99])), [{ create: { kind: undefined } }]);
});

test("what_is_no_frame_is_refused", () => {
  for (const [name, bytes] of [
    ["a length above the limit", [0xff, 0x7f]],
    ["a length without an end", Array(10).fill(0x80)],
    ["a field longer than its frame", [3, 0x9a, 1, 9]],
    ["a varint that is cut by the end of its frame", [2, 0x08, 0x80]],
    ["a wire type that is none", [1, 0x0b]],
  ]) {
    assert.throws(() => new Frames(1000).push(Uint8Array.from(bytes)), RangeError, name);
  }
});

// The parts by themselves: MessagePack against the golden frames, time, storage, the size of what a page loads.

import assert from "node:assert/strict";
import fs from "node:fs";
import { mock, test } from "node:test";
import { gzipSync } from "node:zlib";

import { backoff, decode, encode, IDBFactory, IDBKeyRange, IndexedDbStorage, MemoryStorage, newId, watch } from "../../target/sdk/under_test.mjs";

const hex = (bytes) => Buffer.from(bytes).toString("hex");

test("golden frames: the same bytes, and back", () => {
  const files = fs.readdirSync("tests/golden").filter((name) => name.endsWith(".json"));
  assert.ok(files.length >= 37, `${files.length} golden frames`);
  for (const file of files) {
    const { frame, msgpack } = JSON.parse(fs.readFileSync(`tests/golden/${file}`, "utf8"));
    assert.deepEqual(decode(Buffer.from(msgpack, "hex")), frame, file);
    assert.equal(hex(encode(frame)), msgpack, file);
  }
});

test("every size of everything comes back as it was", () => {
  const numbers = [0, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER, 2 ** 60, -1, -32, -33, -128, -129, -32768, -32769, -(2 ** 31), -(2 ** 31) - 1, Number.MIN_SAFE_INTEGER, 0.5, -2.5, 1e300, 5e-324];
  for (const number of numbers) assert.equal(decode(encode(number)), number);
  for (const size of [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536]) {
    assert.equal(decode(encode("a".repeat(size))), "a".repeat(size));
    assert.deepEqual(decode(encode(Array(size).fill(1))), Array(size).fill(1));
    const map = Object.fromEntries(Array.from({ length: size }, (_, at) => [`k${at}`, null]));
    assert.deepEqual(decode(encode(map)), map);
  }
  for (const text of ["日本語 👩‍👩‍👧", "\u0000", "\uFEFFx", "é"]) assert.equal(decode(encode(text)), text);
  // As JSON has it: what is not there is left out, what is no number is null.
  assert.deepEqual(decode(encode({ a: undefined, b: NaN })), { b: null });
  assert.deepEqual(decode(encode(JSON.parse('{"__proto__":{"x":1}}'))), JSON.parse('{"__proto__":{"x":1}}'));
});

test("bytes that are no frame are an error, whatever they are", () => {
  const frame = encode({ type: "events", room: "lobby", events: [{ seq: 300, text: "hello" }], at: -5, f: 1.5 });
  for (let end = 0; end < frame.length; end++) assert.throws(() => decode(frame.subarray(0, end)), `cut at ${end}`);
  assert.throws(() => decode(Buffer.concat([frame, frame])));
  for (const bad of ["c1", "c403010203", "d40100", "8101c0", "a2ff", "a2c328", "ddffffffff", "dfffffffff", "dbffffffff", "91".repeat(100) + "c0"]) {
    assert.throws(() => decode(Buffer.from(bad, "hex")), bad);
  }
  let seed = 7;
  const random = () => (seed = (seed * 48271) % 2147483647);
  for (let round = 0; round < 20_000; round++) {
    const bytes = Uint8Array.from({ length: random() % 24 }, () => random() % 256);
    try {
      decode(bytes);
    } catch {
      // Any error will do, as long as it ends.
    }
  }
  assert.throws(() => encode(10n));
  const deep = [];
  deep.push(deep);
  assert.throws(() => encode(deep));
});

test("waits: a random first one, then doubling, never beyond the bound", () => {
  const pace = { jitter_ms: 1000, backoff_max_ms: 30_000 };
  assert.equal(backoff(0, pace, () => 0), 0);
  assert.equal(backoff(0, pace, () => 1), 1000);
  assert.deepEqual([1, 2, 3].map((attempt) => [backoff(attempt, pace, () => 0), backoff(attempt, pace, () => 1)]), [[1000, 2000], [2000, 4000], [4000, 8000]]);
  for (const attempt of [5, 50, 5000]) assert.equal(backoff(attempt, pace, () => 1), 30_000);
});

test("a jump of time is noticed, whichever clock shows it; steady time is not one", () => {
  mock.timers.enable({ apis: ["setInterval"] });
  const told = [];
  let [monotonic, wall] = [5000, 1_700_000_000_000];
  const clocks = [mock.method(performance, "now", () => monotonic), mock.method(Date, "now", () => wall)];
  const stop = watch((jumped) => told.push(jumped));
  const step = (monotonicBy, wallBy) => {
    monotonic += monotonicBy;
    wall += wallBy;
    mock.timers.tick(1000);
    return told.pop();
  };
  try {
    assert.equal(step(1000, 1000), false);
    assert.equal(step(1700, 1700), false, "a busy moment");
    assert.equal(step(600_000, 600_000), true, "the process stood still");
    assert.equal(step(1000, 1000), false);
    assert.equal(step(1000, 3_600_000), true, "asleep, and the monotonic clock with it; or the clock was set forward");
    assert.equal(step(1000, 1000), false);
    assert.equal(step(1000, -7_200_000), true, "set back");
    assert.equal(step(1000, 1000), false);
  } finally {
    stop();
    for (const clock of clocks) clock.mock.restore();
    mock.timers.reset();
  }
});

for (const [name, make] of [
  ["memory", () => new MemoryStorage()],
  ["IndexedDB", () => {
    Object.assign(globalThis, { indexedDB: new IDBFactory(), IDBKeyRange });
    return new IndexedDbStorage();
  }],
]) {
  test(`storage in ${name}: by user, replaced, removed`, async () => {
    const storage = make();
    const message = (user, id, more) => ({ key: `${user}/${id}`, user, owner: "o", n: 1, room: "lobby", id, text: "hi", data: { a: [1] }, at: 1, ...more });
    await storage.put(message("alice", "1"));
    await storage.put(message("alice", "2"));
    await storage.put(message("bob", "1"));
    await storage.put(message("alice", "1", { failed: { code: "forbidden", message: "muted" } }));
    await storage.remove("alice/2");
    await storage.remove("alice/never");
    assert.deepEqual(await storage.load("alice"), [message("alice", "1", { failed: { code: "forbidden", message: "muted" } })]);
    assert.deepEqual((await storage.load("bob")).length, 1);
    assert.deepEqual(await storage.load("carol"), []);
    storage.close?.();
    assert.equal((await storage.load("alice")).length, 1, "it opens again");
    storage.close?.();
    delete globalThis.indexedDB;
  });
}

test("ids are random and of the form that the protocol wants", () => {
  const ids = new Set(Array.from({ length: 1000 }, newId));
  assert.equal(ids.size, 1000);
  for (const id of ids) assert.match(id, /^[0-9a-f]{32}$/);
});

test("a page loads at most 12 KB (of 1,024 bytes) of it", () => {
  const bytes = gzipSync(fs.readFileSync("target/sdk/page.min.js"), { level: 9 }).length;
  assert.ok(bytes <= 12 * 1024, `${bytes} bytes gzipped`);
});

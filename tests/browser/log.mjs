// What the page has of a room's log, when live entries and pages of history cross. Usage: node log.mjs MODULE, where
// src/web/app/timeline/log.ts was bundled to a module of JavaScript. The network is this file: it answers when a case says so.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const { Log } = await import(pathToFileURL(process.argv[2]));

const message = (seq, more = {}) => ({ kind: "message", seq, user: "bob", at: "2026-01-01T00:00:00Z", id: `m${seq}`, text: `no. ${seq}`, ...more });
const messages = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => message(from + at));

/** Requests without an answer, the oldest first. */
const waiting = [];
globalThis.fetch = (address) =>
  new Promise((resolve) => {
    const query = new URL(address, "http://localhost").searchParams;
    waiting.push({ query, answer: (body) => resolve(new Response(JSON.stringify(body))) });
  });
const answer = (items, more = true, next = null) => waiting.shift().answer({ items, more, next });
const numbers = (log) => log.items.map((item) => item.seq);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

const cases = {
  async "takes nothing before a page was asked for"() {
    const log = new Log("r", "alice");
    log.apply(messages(1, 50));
    assert.deepEqual(numbers(log), []);
    const loaded = log.loadLatest();
    answer(messages(41, 140));
    assert.ok(await loaded);
    assert.deepEqual(numbers(log), range(41, 140));
    assert.deepEqual([log.older, log.newer], [true, false]);
  },

  async "goes on behind a page with what came meanwhile"() {
    const log = new Log("r", "alice");
    const loaded = log.loadLatest();
    log.apply(messages(99, 102));
    assert.deepEqual(numbers(log), [], "nothing shows that the page would take away again");
    answer(messages(1, 100), false);
    await loaded;
    assert.deepEqual(numbers(log), range(1, 102));
    log.apply([message(103)]);
    assert.deepEqual(numbers(log), range(1, 103));
  },

  async "has no hole where the end is reached"() {
    const log = new Log("r", "alice");
    const around = log.loadAround(50);
    answer(messages(1, 100), true, "100");
    await around;
    log.apply([message(150)]);
    assert.deepEqual(numbers(log), range(1, 100));
    const newer = log.loadNewer();
    assert.equal(waiting[0].query.get("after"), "100");
    log.apply([message(151), message(152)]);
    answer(messages(101, 150), false);
    await newer;
    log.apply([message(153)]);
    assert.deepEqual(numbers(log), range(1, 153));
    assert.equal(log.newer, false);
  },

  async "goes to the end past what it has"() {
    const log = new Log("r", "alice");
    const around = log.loadAround(50);
    answer(messages(1, 100), true, "100");
    await around;
    const latest = log.loadLatest();
    log.apply([message(501)]);
    answer(messages(401, 500));
    await latest;
    log.apply([message(502)]);
    assert.deepEqual(numbers(log), range(401, 502));
  },

  async "changes what the page brought"() {
    const log = new Log("r", "alice");
    const loaded = log.loadLatest();
    log.apply([
      { kind: "edit", seq: 101, user: "bob", at: "2026-01-01T00:00:01Z", target: 100, text: "other words" },
      { kind: "delete", seq: 102, user: "bob", at: "2026-01-01T00:00:02Z", target: 99 },
      message(103),
      { kind: "edit", seq: 104, user: "bob", at: "2026-01-01T00:00:03Z", target: 103, text: "and again" },
      { kind: "edit", seq: 105, user: "bob", at: "2026-01-01T00:00:03Z", target: 98, text: "of one that is deleted" },
    ]);
    answer(messages(1, 97).concat(message(98, { text: undefined, deleted: true }), messages(99, 100)), false);
    await loaded;
    assert.equal(log.get(100).text, "other words");
    assert.deepEqual([log.get(99).deleted, log.get(99).text], [true, ""]);
    assert.equal(log.get(103).text, "and again");
    assert.equal(log.get(98).text, "");
  },

  async "counts a reaction once whose entry crossed a page before it"() {
    const log = new Log("r", "alice");
    const loaded = log.loadLatest();
    answer(messages(101, 200));
    await loaded;
    const older = log.loadOlder();
    log.apply([{ kind: "reaction", seq: 201, user: "bob", at: "2026-01-01T00:00:01Z", target: 150, emoji: "👍", active: true }]);
    answer(messages(1, 100), false);
    await older;
    assert.deepEqual(log.get(150).reactions.map((one) => one.count), [1]);
    assert.deepEqual(numbers(log), range(1, 200));
    waiting.length = 0;
  },

  async "loads what passed by while a page was under way"() {
    const log = new Log("r", "alice");
    const loaded = log.loadLatest();
    log.apply([message(101)]);
    log.gap();
    log.apply([message(400)]);
    answer(messages(1, 100), false);
    await loaded;
    assert.deepEqual(numbers(log), range(1, 100));
    assert.equal(log.newer, true);
    const newer = log.loadNewer();
    answer(messages(101, 400), false);
    await newer;
    assert.deepEqual(numbers(log), range(1, 400));
    assert.equal(log.newer, false);
  },

  async "keeps a bounded part of what comes meanwhile"() {
    const log = new Log("r", "alice");
    const loaded = log.loadLatest();
    log.apply(messages(101, 10_200));
    answer(messages(1, 100), false);
    await loaded;
    assert.deepEqual(numbers(log), range(1, 100));
    assert.equal(log.newer, true);
  },

  async "lets a later request win"() {
    const log = new Log("r", "alice");
    const first = log.loadLatest();
    const second = log.loadAround(50);
    answer(messages(901, 1_000));
    assert.equal(await first, false);
    answer(messages(1, 100), true, "100");
    assert.ok(await second);
    assert.deepEqual(numbers(log), range(1, 100));
  },

  async "reads a thread while it goes on"() {
    const log = new Log("r", "alice");
    let there;
    const seeded = log.seed(() => new Promise((resolve) => (there = resolve)));
    log.apply([message(9, { reply_to: 1 })]);
    there([message(1), message(5, { reply_to: 1 })]);
    await seeded;
    assert.deepEqual(numbers(log), [1, 5, 9]);
  },
};

for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
  } catch (error) {
    error.message = `log ${name}: ${error.message}`;
    throw error;
  }
  assert.equal(waiting.length, 0, `${name}: every request is answered`);
}
console.log(`ok      log (${Object.keys(cases).length} cases)`);
// Messages with tallies are read again a moment later, from nobody.
process.exit(0);

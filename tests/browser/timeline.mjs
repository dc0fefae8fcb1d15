// The arithmetic of the long list, against a plain one, and with a hundred thousand rows. Usage: node timeline.mjs MODULE, where
// src/web/app/timeline/heights.ts was made a module of JavaScript.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const { Heights } = await import(pathToFileURL(process.argv[2]));
const GUESS = 48;

// A few thousand steps of a seeded walk: rows come at both ends, go, are measured; after each the sums are those of a plain list.
let seed = 20_261_122;
const random = (below) => {
  seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};
const heights = new Heights(GUESS);
let rows = [];
let [low, high] = [0, 0];
const known = new Map();
const size = (key) => known.get(key) ?? GUESS;
for (let step = 0; step < 3_000; step++) {
  const what = random(5);
  const some = random(step % 7 === 0 ? 700 : 20);
  if (what === 0) for (let at = 0; at < some; at++) rows.push(`k${high++}`);
  else if (what === 1) for (let at = 0; at < some; at++) rows.unshift(`k${--low}`);
  else if (what === 2) rows.splice(rows.length - Math.min(rows.length, random(5)));
  else if (what === 3) rows = rows.slice(Math.min(rows.length, random(5)));
  heights.follow(rows.length, (index) => rows[index]);
  for (let at = 0; at < 5 && rows.length > 0; at++) {
    const index = random(rows.length);
    const measured = 20 + random(300);
    heights.measured(index, measured);
    // Less than half a pixel is no news, but here all are whole.
    known.set(rows[index], measured);
  }
  const total = rows.reduce((sum, key) => sum + size(key), 0);
  assert.equal(heights.total, total, `the total after step ${step}`);
  if (rows.length === 0) continue;
  const index = random(rows.length);
  const top = rows.slice(0, index).reduce((sum, key) => sum + size(key), 0);
  assert.equal(heights.top(index), top);
  assert.equal(heights.at(top), index, "the row at its own top");
  assert.equal(heights.at(top + size(rows[index]) - 1), index, "and at its last pixel");
  assert.equal(heights.find(rows[index], random(rows.length)), index);
}

// A hundred thousand: what a frame of scrolling asks, and what an arriving message costs.
const many = new Heights(GUESS);
const keys = Array.from({ length: 100_000 }, (_, at) => `user/${at}`);
many.follow(keys.length, (index) => keys[index]);
const began = performance.now();
const FRAMES = 2_000;
for (let at = 0; at < FRAMES; at++) {
  const index = random(keys.length);
  many.measured(index, 30 + random(200));
  many.at(many.top(index));
  if (at % 10 === 0) keys.push(`user/new-${at}`);
  many.follow(keys.length, (one) => keys[one]);
}
const each = (performance.now() - began) / FRAMES;
console.log(`ok      timeline (100,000 rows: ${each.toFixed(3)} ms a frame)`);
assert.ok(each < 2, `a frame's arithmetic takes ${each} ms`);

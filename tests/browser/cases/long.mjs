// Ten thousand messages: all of them are found by scrolling, few are in the page at a time, and what one looks at stays in place
// while earlier ones come.
import assert from "node:assert/strict";
import { Api, Person } from "../pages.mjs";
import { until } from "../servers.mjs";

const MESSAGES = Number(process.env.BROWSER_MESSAGES ?? 10_000);
const MIDDLE = MESSAGES / 2;
const ROWS = 250;
/** Longer than this the way up takes on no machine. */
const CLIMB_MS = 150_000;

/** Upwards through the room for a while, from where it was left; what has been seen on the way so far. */
async function climb(most, ms) {
  const box = document.querySelector(".scroller");
  const frame = () => new Promise(requestAnimationFrame);
  const all = (globalThis.climbed ??= { seen: new Set(), wrong: [], frames: [], largest: 0 });
  const { seen, wrong, frames } = all;
  const look = () => {
    const rows = [...document.querySelectorAll(".timeline .message")];
    all.largest = Math.max(all.largest, rows.length);
    let last = 0;
    const inside = box.getBoundingClientRect();
    let bottom = null;
    for (const row of rows) {
      const seq = Number(row.dataset.seq);
      if (seq !== last + 1 && last !== 0) wrong.push(`${seq} behind ${last}`);
      last = seq;
      const place = row.parentElement.getBoundingClientRect();
      if (bottom !== null && Math.abs(place.top - bottom) > 1) wrong.push(`${seq} overlaps or leaves a hole`);
      bottom = place.bottom;
      if (place.bottom > inside.top && place.top < inside.bottom) seen.add(seq);
    }
    return rows;
  };
  const until = performance.now() + ms;
  // Most of a window at a time. A row that is in sight before is where it should be after.
  while (!seen.has(1) && performance.now() < until && wrong.length < 5) {
    const rows = look();
    // (The first row of a page is drawn anew, with or without its head, when there is one before it.)
    const pivot = rows.slice(1).find((row) => row.getBoundingClientRect().top > box.getBoundingClientRect().top);
    const [seq, top] = [pivot?.dataset.seq, pivot?.getBoundingClientRect().top];
    const before = box.scrollTop;
    const began = performance.now();
    box.scrollTop = Math.max(0, before - 600);
    const moved = before - box.scrollTop;
    await frame();
    await frame();
    frames.push((performance.now() - began) / 2);
    const again = document.querySelector(`.message[data-seq="${seq}"]`);
    // (It was in sight and is a step further down now, or where it was: within what is kept beyond the edge.)
    if (pivot && !again) wrong.push(`${seq} left the page at ${before}, which has ${document.querySelector(".timeline .message")?.dataset.seq} at ${box.scrollTop}`);
    if (again) {
      const off = Math.abs(again.getBoundingClientRect().top - (top + moved));
      if (off > 2) wrong.push(`${seq} jumped by ${off} px at ${before}`);
    }
    if (moved === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    look();
  }
  const missed = Array.from({ length: most }, (_, at) => at + 1).filter((seq) => !seen.has(seq));
  const sorted = [...frames].sort((a, b) => a - b);
  const part = (share) => sorted[Math.floor(sorted.length * share)];
  return { seen: seen.size, missed, wrong, largest: all.largest, top: seen.has(1), frames: frames.length, median: part(0.5), p95: part(0.95) };
}

export default async function (world) {
  const [node] = await world.shared();
  const api = await Api.register(node.url, "erin");
  await api.call("POST", "rooms", { id: "long", kind: "public", name: "Long" });
  const erin = await Person.at(world.browser, node.url, "erin");
  await erin.signIn();
  // Of many heights.
  const texts = Array.from({ length: MESSAGES }, (_, at) => `no. ${at} ${"and so on ".repeat((at * 7) % 23)}${at % 11 === 0 ? "\nand a line\nand another" : ""}`);
  const began = Date.now();
  await erin.pours("long", texts);
  console.log(`        ${MESSAGES} messages written in ${((Date.now() - began) / 1000).toFixed(1)} s`);

  await erin.open("long");
  await erin.page.waitForSelector(`.message[data-seq="${MESSAGES}"]`);

  // A few seconds at a time, so that a page that stands still is told from one that is slow.
  const upBegan = Date.now();
  let result;
  do result = await erin.page.evaluate(climb, MESSAGES, 5_000);
  while (!result.top && result.wrong.length < 5 && Date.now() - upBegan < CLIMB_MS);
  console.log(`        up through ${result.seen} messages in ${result.frames} steps; a frame takes ${result.median.toFixed(1)} ms (95th of a hundred: ${result.p95.toFixed(1)} ms); at most ${result.largest} rows in the page`);
  assert.deepEqual(result.wrong, []);
  assert.ok(result.top, "the beginning is reached");
  assert.deepEqual(result.missed, [], "each message was in sight");
  assert.ok(result.largest <= ROWS, `${result.largest} rows are in the page`);
  assert.ok(result.p95 <= 100, `frames take ${result.p95} ms`);

  // From the beginning straight to the end, and a link into the middle.
  await erin.press("Latest messages", ".timeline");
  await until("the end is in sight", () => erin.page.$(`.message[data-seq="${MESSAGES}"]`));
  await erin.says("at the end");
  await erin.sees("at the end");
  await erin.page.goto(`${node.url}/r/long/${MIDDLE}`);
  await erin.page.waitForSelector(`.message.marked[data-seq="${MIDDLE}"]`);
  const place = await erin.page.$eval(`.message[data-seq="${MIDDLE}"]`, (row) => [row.getBoundingClientRect().top, innerHeight]);
  assert.ok(place[0] > 0 && place[0] < place[1], `the linked message is in sight: ${place}`);
  // From there downwards by keys, one message after the other.
  await until("the linked message has the focus", () => erin.page.evaluate(() => Number(document.activeElement?.dataset?.seq)).then((seq) => seq === MIDDLE));
  for (let at = 0; at < 30; at++) await erin.page.keyboard.press("ArrowDown");
  await until("the focus went down", () => erin.page.evaluate(() => Number(document.activeElement?.dataset?.seq)).then((seq) => seq === MIDDLE + 30));
  await erin.leave();
}

// A hundred thousand messages: up through many of them (BROWSER_LOADED=100000: all) and down again, to a date, to a link. Few are
// in the page at a time, those that are there are the right ones, and no task keeps the reader waiting.
import assert from "node:assert/strict";
import { Api, Person } from "../pages.mjs";
import { until } from "../servers.mjs";

const MESSAGES = 100_000;
const LOADED = Number(process.env.BROWSER_LOADED ?? 30_000);
const ROWS = 250;
const TASK_MS = 200;
const ROUNDS = 3;
const PLACES = 60;
const PLACES_AT_ONCE = 12;
/** Longer than this the way up takes on no machine. */
const LOADING_MS = 120_000;
/** Of hundreds of pages this many may take a long task: a machine that has no time lets any page wait. */
const LONG_TASKS = 5;

/** What each look at the page finds wrong, how many rows there are, and which tasks were long. */
const watcher = () => {
  globalThis.tasks = [];
  new PerformanceObserver((list) => globalThis.tasks.push(...list.getEntries().map((one) => Math.round(one.duration)))).observe({ type: "longtask" });
  globalThis.most = 0;
  globalThis.wrong = [];
  globalThis.look = () => {
    const rows = [...document.querySelectorAll(".timeline .message")];
    globalThis.most = Math.max(globalThis.most, rows.length);
    const box = document.querySelector(".scroller").getBoundingClientRect();
    const inside = rows.filter((row) => row.getBoundingClientRect().bottom > box.top && row.getBoundingClientRect().top < box.bottom);
    const seqs = rows.map((row) => Number(row.dataset.seq));
    const say = (what) => globalThis.wrong.length < 5 && globalThis.wrong.push(what);
    seqs.forEach((seq, at) => at > 0 && seq !== seqs[at - 1] + 1 && say(`${seq} behind ${seqs[at - 1]}`));
    for (const row of rows) {
      const text = row.querySelector(".text")?.textContent ?? "";
      const no = row.closest("[data-key]").dataset.key.split("-").at(-1);
      if (!text.startsWith(`no. ${no} `)) say(`${row.dataset.seq}, which is no. ${no}, says ${text.slice(0, 30)}`);
    }
    if (inside.length === 0) say(`nothing is in sight at ${document.querySelector(".scroller").scrollTop}`);
    return [Number(inside[0]?.dataset.seq), Number(inside.at(-1)?.dataset.seq)];
  };
  globalThis.frames = async (count) => {
    for (let at = 0; at < count; at++) await new Promise(requestAnimationFrame);
  };
};

export default async function (world) {
  const node = await world.node();
  const api = await Api.register(node.url, "erin");
  await api.call("POST", "rooms", { id: "vast", kind: "public", name: "Vast" });
  const erin = await Person.at(world.browser, node.url, "erin", { before: watcher });
  const { page } = erin;
  await erin.signIn();
  const began = Date.now();
  // Nobody looks on meanwhile: a page that follows the room would take the time.
  await page.goto("about:blank");
  await erin.pours("vast", Array.from({ length: MESSAGES }, (_, at) => `no. ${at} ${"and so on ".repeat((at * 7) % 13)}`));
  const written = Date.now() - began;
  await page.goto(`${node.url}/r/vast`);
  await page.waitForSelector(`.message[data-seq="${MESSAGES}"]`);

  // Up, as fast as the pages come; a few seconds at a time, so that a page that stands still is told from one that is slow.
  const first = MESSAGES - LOADED + 1;
  await page.evaluate(() => (globalThis.tasks.length = 0));
  const upBegan = Date.now();
  let top = Infinity;
  while (top > first && Date.now() - upBegan < LOADING_MS) {
    top = await page.evaluate(async (first) => {
      const box = document.querySelector(".scroller");
      const until = performance.now() + 5_000;
      let [top] = globalThis.look();
      while (top > first && performance.now() < until) {
        box.scrollTop = 0;
        await globalThis.frames(1);
        [top] = globalThis.look();
      }
      return top;
    }, first);
  }
  const loadingMs = Date.now() - upBegan;
  const { height, long } = await page.evaluate((limit) => ({
    height: document.querySelector(".scroller").scrollHeight,
    long: globalThis.tasks.filter((ms) => ms > limit),
  }), TASK_MS);
  assert.ok(top <= first, `from ${MESSAGES} up to ${top}, not to ${first}, in ${loadingMs / 1000} s: ${await page.$eval("body", (one) => one.innerText.slice(-300))}`);
  assert.ok(height > LOADED * 20, `all of it is there: ${height} px`);

  // Down and up, in pages and to places anywhere. What another program took from this machine is not there a second time.
  let places;
  for (let round = 0; round < ROUNDS; round++) {
    await page.evaluate(() => (globalThis.tasks.length = 0));
    const times = [];
    for (let from = 0; from < PLACES; from += PLACES_AT_ONCE) {
      times.push(...await page.evaluate(async (from, to, count) => {
        const box = document.querySelector(".scroller");
        const times = [];
        const go = async (top) => {
          const began = performance.now();
          box.scrollTop = top;
          await globalThis.frames(2);
          times.push(performance.now() - began);
          globalThis.look();
        };
        for (let at = from; at < to; at++) {
          await go((box.scrollHeight * ((at * 37) % count)) / count);
          for (let down = 0; down < 5; down++) await go(box.scrollTop + 800);
          await go(box.scrollTop - 2_500);
        }
        return times;
      }, from, from + PLACES_AT_ONCE, PLACES));
    }
    times.sort((a, b) => a - b);
    const longest = await page.evaluate(() => Math.max(0, ...globalThis.tasks));
    places = { p95: times[Math.floor(times.length * 0.95)] / 2, longest };
    if (places.longest <= TASK_MS) break;
  }
  const { wrong, most } = await page.evaluate(() => ({ wrong: globalThis.wrong, most: globalThis.most }));
  console.log(
    `        ${MESSAGES} messages written in ${(written / 1000).toFixed(1)} s, ${LOADED} loaded in ${(loadingMs / 1000).toFixed(1)} s (tasks over ${TASK_MS} ms: ${long.join(", ") || "none"});` +
      ` anywhere among them a frame takes ${places.p95.toFixed(1)} ms (95th of a hundred), the longest task ${places.longest} ms; at most ${most} rows`,
  );
  assert.deepEqual(wrong, []);
  assert.ok(most <= ROWS, `${most} rows are in the page`);
  const shown = await page.$$eval(".timeline .message", (rows) => rows.slice(0, 200).map((row) => [Number(row.dataset.seq), row.querySelector(".text").textContent.trim()]));
  const log = (await api.call("GET", `rooms/vast/messages?after=${shown[0][0] - 1}&limit=${shown.length}`)).items;
  assert.deepEqual(shown, log.map(({ seq, text }) => [seq, text.trim()]), "what the log says stands there");
  assert.ok(places.longest <= TASK_MS, `a task takes ${places.longest} ms`);
  assert.ok(long.length <= LONG_TASKS, `long tasks while it loads: ${long}`);

  // To the end; to a time in the middle; by a link to what is far from both.
  await erin.press("Latest messages", ".timeline");
  await until("the end is in sight", () => page.evaluate(() => globalThis.look()).then(([, last]) => last === MESSAGES));
  const middle = MESSAGES / 2;
  const { items } = await api.call("GET", `rooms/vast/messages?after=${middle - 1}&limit=1`);
  const [found] = (await api.call("GET", `rooms/vast/messages?at=${encodeURIComponent(items[0].at)}&limit=1`)).items;
  await page.goto(`${node.url}/r/vast`);
  await page.waitForSelector(`.message[data-seq="${MESSAGES}"]`);
  await erin.press("Go to date", ".room-head");
  await page.$eval("dialog input", (one, at) => {
    const time = new Date(at);
    // All were written within a minute, which is what one chooses otherwise.
    one.step = "any";
    one.value = new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, -1);
    one.dispatchEvent(new Event("input", { bubbles: true }));
  }, items[0].at);
  await erin.press("Go", "dialog");
  await page.waitForSelector(`.message.marked[data-seq="${found.seq}"]`);
  assert.ok(Math.abs(found.seq - middle) < MESSAGES / 20, `${found.seq} is of that time`);
  await erin.press("Latest messages", ".timeline");
  await page.waitForSelector(`.message[data-seq="${MESSAGES}"]`);
  await page.goto(`${node.url}/r/vast/777`);
  await page.waitForSelector('.message.marked[data-seq="777"]');
  const [from, to] = await page.evaluate(() => globalThis.look());
  assert.ok(from <= 777 && to >= 777, `the linked message is in sight: ${from} to ${to}`);
  assert.deepEqual(await page.evaluate(() => globalThis.wrong), []);
  await erin.leave();
  await node.kill();
}

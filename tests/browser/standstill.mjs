// Whether a browser that gave no answer stood still itself. An answer may also be missing because our page is at work for ever, or
// waits for what our server never says: those are failures. It stood still where a page that takes no processor time answers nothing
// any more, or is shown no frame; then, and only then, a case is tried once more in another browser.
import { readdirSync, readFileSync } from "node:fs";
import { execFileSync } from "node:child_process";

const LOOK_MS = 2_000;
const ANSWER_MS = 10_000;
/** A process that takes a larger part of a processor than this is at work. */
const AT_WORK = 0.3;

/** Processor time of each process of the browser, in seconds. */
function times(group) {
  const tick = Number(execFileSync("getconf", ["CLK_TCK"]));
  const found = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      // Behind the name, which may hold anything: state, parent, group … 12th and 13th time in user and system mode.
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ");
      if (Number(fields[2]) !== group) continue;
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      const kind = args.match(/--type=([\w-]+)/)?.[1] ?? "browser";
      found.set(pid, { kind, seconds: (Number(fields[11]) + Number(fields[12])) / tick });
    } catch {
      // Ended meanwhile.
    }
  }
  return found;
}

const soon = (what) => Promise.race([what.then(() => true, () => false), new Promise((resolve) => setTimeout(resolve, ANSWER_MS, false))]);

/** Whether a page runs what it is asked to, and is shown a frame for it. Behind another tab it would be shown none. */
const draws = async (page) =>
  (await soon(page.bringToFront())) && (await soon(page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => resolve())))));

/** What the browser does now, in words, and whether it stands still. */
export async function look(browser) {
  const group = browser.process()?.pid;
  const before = times(group);
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  const seconds = (performance.now() - began) / 1000;
  const parts = [...times(group)].map(([pid, { kind, seconds: now }]) => ({ kind, part: (now - (before.get(pid)?.seconds ?? 0)) / seconds }));
  const atWork = parts.some(({ kind, part }) => kind === "renderer" && part > AT_WORK);
  let [still, fell] = [false, false];
  for (const context of browser.browserContexts()) {
    if (!context.id) continue;
    const pages = await Promise.race([context.pages(), new Promise((resolve) => setTimeout(resolve, ANSWER_MS, []))]);
    for (const page of pages) {
      if (page.fell) fell = true;
      else still ||= !(await draws(page));
    }
  }
  const words = parts.map(({ kind, part }) => `${kind} ${Math.round(part * 100)} %`).join(", ") || "no process is left";
  return { words: `${words}; ${fell ? "a page fell over" : still ? "a page draws nothing" : "its pages draw"}`, stoodStill: parts.length > 0 && still && !atWork && !fell };
}

/** An answer that did not come, whoever owed it. */
export const unanswered = (error) => error.name === "ProtocolError" && /timed out/.test(error.message);

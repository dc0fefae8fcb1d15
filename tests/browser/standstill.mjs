// Whether a browser that gave no answer was at work, which is for the page to explain, or stood still or fell over, which no page
// of ours can make it do: then, and only then, a case is tried once more in another browser.
import { readdirSync, readFileSync } from "node:fs";
import { execFileSync } from "node:child_process";

const LOOK_MS = 2_000;
/** A process that takes a larger part of a processor than this is at work. */
const AT_WORK = 0.3;

/** Tells when a page falls over, or the browser. */
export function watch(browser, tell) {
  browser.on("targetcreated", async (target) => {
    if (target.type() !== "page") return;
    const page = await target.page().catch(() => null);
    page?.on("error", (error) => tell(`${page.url()}: ${error.message}`));
  });
  browser.on("disconnected", () => tell("the browser is gone"));
}

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

/** What the browser does now, in words, and whether one of its pages is at work. */
export async function look(browser) {
  const group = browser.process()?.pid;
  const before = times(group);
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  const seconds = (performance.now() - began) / 1000;
  const parts = [...times(group)].map(([pid, { kind, seconds: now }]) => ({ kind, part: (now - (before.get(pid)?.seconds ?? 0)) / seconds }));
  return {
    words: parts.map(({ kind, part }) => `${kind} ${Math.round(part * 100)} %`).join(", ") || "no process is left",
    atWork: parts.some(({ kind, part }) => kind === "renderer" && part > AT_WORK),
  };
}

/** An answer that the browser itself owed and did not give. */
export const unanswered = (error) => error.name === "ProtocolError" && /timed out/.test(error.message);

// Runs the cases, or those that are named: node all.mjs PROGRAM [CASE…]
import { readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { launch, SECRET } from "./pages.mjs";
import { cluster, logOf, node, stopAll } from "./servers.mjs";
import { look, unanswered } from "./standstill.mjs";

const [program, ...wanted] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const LONGEST_MS = 240_000;

const names = readdirSync(join(here, "cases"))
  .filter((name) => name.endsWith(".mjs"))
  .map((name) => name.slice(0, -4))
  .filter((name) => wanted.length === 0 || wanted.includes(name))
  .sort();
if (names.length === 0) throw new Error(`no such case: ${wanted.join(", ")}`);

let browser;
let shared;
const world = {
  program: resolve(program),
  get browser() {
    return browser;
  },
  /** A node of one's own. */
  node: (settings) => node(resolve(program), { "auth.jwt.secret": SECRET, ...settings }),
  /** The cluster of three that the cases share; one that breaks nodes takes one of its own. */
  shared: async () => (shared ??= await cluster(resolve(program), 3)),
  cluster: () => cluster(resolve(program), 3),
};

/** Runs a case; gives what it threw. */
async function attempt(name) {
  const { default: run } = await import(pathToFileURL(join(here, "cases", `${name}.mjs`)));
  const began = Date.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it takes longer than ${LONGEST_MS / 1000} s`)), LONGEST_MS);
  });
  try {
    await Promise.race([run(world), late]);
    console.log(`ok      ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    return null;
  } catch (error) {
    const thrown = error instanceof Error ? error : new Error(String(error));
    console.log(`        ${name}, after ${((Date.now() - began) / 1000).toFixed(1)} s: ${thrown.stack}`);
    return thrown;
  } finally {
    clearTimeout(timer);
  }
}

/** What was on the screens then. */
async function pictures(name) {
  let at = 0;
  for (const context of browser.browserContexts()) {
    for (const page of await context.pages()) {
      const file = join(process.env.BROWSER_MODULES, `${name}-${++at}.png`);
      if (page.url().startsWith("http") && !page.fell) await page.screenshot({ path: file }).then(() => console.log(`        see ${file}`), () => {});
    }
  }
}

/** Ends the browser and what its pages stood on, and begins with others. */
async function anew() {
  const { pid } = browser.process();
  await Promise.race([browser.close().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 10_000))]);
  try {
    // All of it: a part that is frozen would hold on to this process.
    process.kill(-pid, "SIGKILL");
  } catch {
    // It is gone.
  }
  for (const one of (await shared) ?? []) await one.kill();
  shared = undefined;
  browser = await launch();
}

const failed = [];
try {
  browser = await launch();
  for (const name of names) {
    let error = await attempt(name);
    if (error && unanswered(error)) {
      const { words, stoodStill } = await look(browser);
      console.log(`        the browser: ${words}`);
      if (stoodStill) {
        console.log(`again   ${name}: the browser stood still`);
        await anew();
        error = await attempt(name);
      }
    }
    if (error) {
      failed.push(name);
      console.log(`FAILED  ${name}`);
      await pictures(name);
    }
    for (const context of browser.browserContexts()) if (context.id) await context.close().catch(() => {});
  }
} finally {
  await browser?.close().catch(() => {});
  if (failed.length > 0 && shared) for (const one of shared) console.log(`${one.name}: ${logOf(one.name).split("\n").filter((line) => /"(ERROR|WARN)"/.test(line)).slice(-5).join("\n")}`);
  await stopAll();
}
if (failed.length > 0) {
  console.error(`browser: failed: ${failed.join(", ")}`);
  process.exit(1);
}

// The SDK in a browser by itself: what is not sent waits in IndexedDB, outlives a reload and the closing of the tab, goes once and
// in its order; two tabs each send their own; a browser that keeps nothing says so.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Api, passwordOf, Person } from "../pages.mjs";
import { balancer, until } from "../servers.mjs";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const esbuild = createRequire(join(root, "src/web/app/"))("esbuild");

export default async function (world) {
  const built = await esbuild.build({
    entryPoints: [join(root, "src/web/sdk/src/index.ts")], bundle: true, write: false, format: "iife", globalName: "roundtable", target: "es2022",
  });
  const source = built.outputFiles[0].text;
  const node = await world.node();
  const before = await balancer([node]);
  const alice = await Api.register(node.url, "alice");
  await alice.call("POST", "rooms", { id: "den", kind: "public" });
  const person = await Person.at(world.browser, before.url, "alice");

  /** A tab with the SDK in it and nothing else, signed in by the cookie. */
  const load = async (tab) => {
    // A page of the server's that runs nothing, whose own policy would let nothing out.
    await tab.setBypassCSP(true);
    await tab.goto(`${before.url}/icon.svg`);
    await tab.evaluate(source + ";globalThis.roundtable = roundtable");
  };
  const begin = (tab) =>
    tab.evaluate(() => {
      globalThis.volatile = 0;
      globalThis.one = new globalThis.roundtable.Client({ user: "alice", keepFailed: true });
      globalThis.one.outbox.on("volatile", () => globalThis.volatile++);
      globalThis.one.connect().catch(() => {});
    });
  const say = (tab, ...texts) => tab.evaluate((all) => all.forEach((text) => void globalThis.one.room("den").send(text).catch(() => {})), texts);
  const waiting = (tab) => tab.evaluate(() => globalThis.one.outbox.items().map(({ text }) => text));
  const kept = (tab) =>
    tab.evaluate(
      () =>
        new Promise((resolve, reject) => {
          const open = indexedDB.open("roundtable-client");
          open.onerror = () => reject(open.error);
          open.onsuccess = () => {
            const all = open.result.transaction("outbox").objectStore("outbox").getAll();
            all.onsuccess = () => (open.result.close(), resolve(all.result.sort((a, b) => a.at - b.at || a.n - b.n).map(({ text }) => text)));
          };
        }),
    );
  const log = async () => (await alice.log("den")).map(({ text }) => text);

  const first = person.page;
  await load(first);
  await first.evaluate((password) => new globalThis.roundtable.Api({ url: location.origin }).login("alice", password), passwordOf("alice"));
  await begin(first);
  await say(first, "one");
  await until("it is sent", async () => (await log()).length === 1);
  await until("nothing is kept any more", async () => (await kept(first)).length === 0);

  // Loaded anew while the server is away.
  before.away = true;
  before.cut();
  await say(first, "two", "three");
  await until("both are kept", async () => (await kept(first)).length === 2);
  // The old page is gone before the server is back, or it would send them itself.
  await first.goto("about:blank");
  before.mend();
  await load(first);
  before.cut();
  await begin(first);
  await until("both are back", async () => (await waiting(first)).length === 2);
  await say(first, "four");
  assert.deepEqual(await waiting(first), ["two", "three", "four"]);
  before.mend();
  await until("all are sent", async () => (await log()).length === 4);
  assert.deepEqual(await log(), ["one", "two", "three", "four"]);

  // The tab is closed; the next one finds what it left.
  before.cut();
  await say(first, "five", "six");
  await until("both are kept", async () => (await kept(first)).length === 2);
  await first.close();
  before.mend();
  const second = await person.tab();
  await load(second);
  await begin(second);
  await until("what was left is sent", async () => (await log()).length === 6);
  assert.deepEqual((await log()).slice(4), ["five", "six"]);

  // Two tabs: neither takes what the other, alive, has to send.
  const third = await person.tab();
  await load(third);
  await begin(third);
  const fourth = await person.tab();
  await load(fourth);
  await until("both are online", async () => (await Promise.all([second, third].map((tab) => tab.evaluate(() => globalThis.one.state.phase)))).every((phase) => phase === "online"));
  before.cut();
  await say(second, "of the second");
  await say(third, "of the third");
  await until("both are kept", async () => (await kept(second)).length === 2);
  await begin(fourth);
  await say(fourth, "of the fourth");
  await until("the third is kept, too", async () => (await kept(fourth)).length === 3);
  for (const [tab, text] of [[second, "of the second"], [third, "of the third"], [fourth, "of the fourth"]]) {
    assert.deepEqual(await waiting(tab), [text]);
  }
  before.mend();
  await until("each is sent", async () => (await log()).length >= 9);
  await until("nothing waits", async () => (await kept(fourth)).length === 0);
  assert.deepEqual((await log()).slice(6).sort(), ["of the fourth", "of the second", "of the third"]);

  // A tab goes while others are there: one of them sends what it left.
  before.cut();
  await say(third, "left by the third");
  await until("it is kept", async () => (await kept(fourth)).length === 1);
  await third.close();
  before.mend();
  await until("what it left is sent", async () => (await log()).length >= 10);
  await until("nothing waits", async () => (await kept(fourth)).length === 0);
  assert.deepEqual((await log()).slice(9), ["left by the third"]);

  // One that came later, when nobody was connected, and went: those that were there before find what it left.
  const fifth = await person.tab();
  await load(fifth);
  before.cut();
  await begin(fifth);
  await say(fifth, "left by the fifth");
  await until("it is kept", async () => (await kept(fourth)).length === 1);
  await fifth.close();
  before.mend();
  await until("what it left is sent", async () => (await log()).length >= 11);
  await until("nothing waits", async () => (await kept(fourth)).length === 0);
  assert.deepEqual((await log()).slice(10), ["left by the fifth"]);

  // A browser that has no store, and one whose store refuses: said once, and messages go all the same.
  for (const [what, breaks] of [
    ["none", () => Object.defineProperty(globalThis, "indexedDB", { value: undefined })],
    ["refused", () => (IDBFactory.prototype.open = () => { throw new DOMException("no", "SecurityError"); })],
  ]) {
    const tab = await person.tab();
    await tab.evaluateOnNewDocument(breaks);
    await load(tab);
    await begin(tab);
    await say(tab, `kept by nobody: ${what}`);
    await until(`it is sent (${what})`, async () => (await log()).includes(`kept by nobody: ${what}`));
    assert.deepEqual(await tab.evaluate(() => [globalThis.one.outbox.durable, globalThis.volatile]), [false, 1], what);
    await tab.close();
  }
  await person.leave();
  before.close();
  await node.kill();
}

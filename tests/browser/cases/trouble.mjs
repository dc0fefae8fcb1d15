// When something is wrong the page says what, and what next: the server away, a session that ended, bans, files too large, a quota,
// a browser that keeps nothing.
import assert from "node:assert/strict";
import { adminToken, Api, Person } from "../pages.mjs";
import { balancer, until } from "../servers.mjs";

export default async function (world) {
  const node = await world.node({ "attachments.max_bytes": 2_000, "attachments.per_user_bytes": 2_500 });
  const before = await balancer([node]);
  const owner = await Api.register(node.url, "alice");
  await owner.call("POST", "rooms", { id: "shed", kind: "public", name: "Shed" });
  const bob = await Api.register(node.url, "bob");
  await bob.call("POST", "rooms/shed/join");

  const page = await Person.at(world.browser, before.url, "bob");
  // Not the right password.
  await page.page.goto(before.url);
  await page.fill("User name", "bob");
  await page.fill("Password", "not the right one");
  await page.press("Sign in", "form");
  await page.shows("The user name or the password is wrong.");
  await page.signIn();
  await page.open("shed");

  // The server goes away: said, with when it is tried again; what is written stays in sight, also of a page that is loaded anew.
  before.cut();
  await page.shows("The server can’t be reached. Next try in", ".connection");
  await page.says("into the dark");
  await page.shows("Waiting to be sent", ".pending");
  before.mend();
  await page.connected();
  await until("it is sent", async () => (await page.page.$$(".pending")).length === 0);
  assert.equal((await owner.log("shed")).filter((entry) => entry.text === "into the dark").length, 1);

  // What waits outlives the page.
  await node.kill();
  await page.says("kept for later");
  await page.shows("Waiting to be sent", ".pending");
  await until("the browser keeps it", () =>
    page.page.evaluate(
      () =>
        new Promise((resolve) => {
          const open = indexedDB.open("roundtable-client");
          open.onsuccess = () => {
            const count = open.result.transaction("outbox").objectStore("outbox").count();
            count.onsuccess = () => resolve(count.result);
          };
          open.onerror = () => resolve(0);
        }),
    ),
  );
  node.launch();
  await node.ready();
  await page.page.reload();
  await page.sees("kept for later");
  await until("it is sent now", async () => (await page.page.$$(".pending")).length === 0);

  // Files: too large, then too many.
  const attach = async (name, bytes) => {
    await page.page.evaluate(
      (called, size) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(["a".repeat(size)], called, { type: "text/plain" }));
        document.querySelector(".room-main").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
      },
      name,
      bytes,
    );
  };
  await attach("large.txt", 2_400);
  await page.shows("This file is too large for the server. Make it smaller", ".attached");
  await page.press("Remove large.txt");
  await attach("first.txt", 1_500);
  await until("it is uploaded", () => page.page.$(".attached li:not(:has(progress))"));
  await page.says("one file");
  await page.sees("one file");
  await attach("second.txt", 1_500);
  await page.shows("Your space for files is full. Delete messages with files", ".attached");
  await page.press("Remove second.txt");

  // The server refuses the text: it says why, and it can be taken back.
  await owner.call("PUT", "rooms/shed/members/bob", { role: "muted" });
  await page.says("a word");
  await page.shows("Not sent", ".pending.failed");
  await page.shows("You are not allowed to do this.", ".pending.failed");
  await owner.call("PUT", "rooms/shed/members/bob", { role: "member" });
  await page.press("Try again", ".pending");
  await until("sent after all", async () => (await owner.log("shed")).some((entry) => entry.text === "a word"));

  // Banned from the room, while one looks at it.
  await owner.call("PUT", "rooms/shed/bans/bob");
  await page.shows("You are no longer in this room.");
  await until("it is gone from the list", async () => !(await page.page.$('.room[href="/r/shed"]')));

  // A token that is no good, from the start and all at once.
  const tokens = (await page.context.cookies()).filter((cookie) => cookie.name === "roundtable_session");
  assert.equal(tokens.length, 1);
  await page.context.setCookie({ ...tokens[0], value: "rt_this-is-none" });
  await page.page.reload();
  await page.page.waitForSelector(".door form");
  await page.signIn();
  await page.connected();
  const { items } = await bob.call("GET", "me/sessions");
  for (const one of items) if (!one.current) await bob.call("DELETE", `me/sessions/${one.id}`);
  await page.shows("This session was ended");
  await page.press("Sign in");
  await page.page.waitForSelector(".door form");

  // Banned from the server.
  await page.signIn();
  await page.connected();
  await new Api(node.url, adminToken()).call("PUT", "admin/bans/bob");
  await page.shows("You can’t use this server");
  await page.shows("An administrator has banned this account.");
  await page.page.reload();
  await page.shows("You can’t use this server");
  await page.leave();

  // A browser that keeps nothing: said, and the rest works.
  await Api.register(node.url, "carol");
  const carol = await Person.at(world.browser, node.url, "carol", {
    before: () => {
      const refuse = { get: () => { throw new DOMException("no", "SecurityError"); } };
      Object.defineProperty(globalThis, "localStorage", refuse);
      Object.defineProperty(globalThis, "indexedDB", { get: () => undefined });
    },
  });
  await carol.page.goto(node.url);
  await carol.shows("This browser keeps nothing for this site (private mode?)");
  await carol.signIn();
  await carol.press("Browse rooms", ".sidebar");
  await carol.press("Join", "dialog");
  await carol.page.waitForSelector(".composer textarea");
  await carol.connected();
  await carol.says("from nowhere");
  await carol.sees("from nowhere");
  await until("it is in the log", async () => (await owner.log("shed")).some((entry) => entry.text === "from nowhere"));
  await carol.leave();

  // The server is away when the page begins.
  const early = await Person.at(world.browser, before.url, "alice");
  await early.page.goto(before.url);
  await early.page.waitForSelector(".door form");
  await early.page.evaluate(() => {
    const real = globalThis.fetch;
    globalThis.away = true;
    globalThis.fetch = (...all) => (globalThis.away ? Promise.reject(new TypeError("no")) : real(...all));
  });
  await early.fill("User name", "alice");
  await early.fill("Password", "a long password of alice");
  await early.press("Sign in", "form");
  await early.shows("The server can’t be reached. Check your connection and try again.");
  await early.leave();
  before.close();
  await node.kill();
}

// Notifications: the browser is asked only when the reader asks for it; then a mention, and a direct message, is told once while the
// page is not looked at, and not at all while it is.
import assert from "node:assert/strict";
import { Api, Person } from "../pages.mjs";
import { until } from "../servers.mjs";

/** The browser's own, with a list of what was asked and shown. */
const recorded = () => {
  globalThis.asked = [];
  globalThis.shown = [];
  const real = globalThis.Notification;
  globalThis.Notification = class extends real {
    constructor(title, options) {
      super(title, options);
      globalThis.shown.push({ title, body: options.body, tag: options.tag });
    }
    static requestPermission() {
      globalThis.asked.push(navigator.userActivation.isActive);
      return real.requestPermission();
    }
  };
};

export default async function (world) {
  const node = await world.node();
  const alice = await Api.register(node.url, "alice");
  await Api.register(node.url, "bob");
  await alice.call("POST", "rooms", { id: "hall", kind: "public", name: "Hall" });
  await alice.call("POST", "rooms", { id: "yard", kind: "public", name: "Yard" });
  const direct = await alice.call("POST", "direct", { user: "bob" });
  const bob = await Person.at(world.browser, node.url, "bob", { before: recorded });
  const { page } = bob;
  await bob.context.overridePermissions(node.url, ["notifications"]);
  await bob.signIn();
  for (const room of ["hall", "yard"]) {
    await bob.press("Browse rooms", ".sidebar");
    await bob.press("Join", "dialog");
    await page.waitForSelector(`.room[aria-current]`);
  }
  await bob.open("hall");
  const told = () => page.evaluate(() => [globalThis.asked, globalThis.shown]);
  const look = async (away) => {
    // Another tab in front of this one, as when a person goes elsewhere.
    if (away) await away.bringToFront();
    else await page.bringToFront();
    await until(`it is ${away ? "hidden" : "in sight"}`, () => page.evaluate((hidden) => (document.visibilityState === "hidden") === hidden, away !== undefined));
  };
  const elsewhere = await bob.context.newPage();

  // Not wanted: nothing is asked, nothing shown.
  await look(elsewhere);
  await alice.say("hall", "@bob are you there?");
  await bob.sees("@bob are you there?");
  assert.deepEqual(await told(), [[], []]);

  // Wanted, by a click.
  await look();
  await bob.click(".account");
  await page.waitForSelector("dialog .check input");
  assert.deepEqual(await told(), [[], []]);
  await bob.click("dialog .check input");
  await until("it is on", () => page.$eval("dialog .check input", (one) => one.checked && !one.disabled));
  assert.deepEqual(await told(), [[true], []]);
  await bob.press("Close", "dialog");

  // In sight: what is called out in the room, or in another one, is on the page anyway.
  await alice.say("hall", "@bob hello");
  await bob.sees("@bob hello");
  await alice.say("yard", "@bob over here");
  await page.waitForSelector('.room[href="/r/yard"] .badge.calls');
  assert.deepEqual((await told())[1], []);

  // Out of sight: what calls, once; what does not, not.
  await look(elsewhere);
  await alice.say("hall", "nobody in particular");
  await alice.say("hall", "@bob now");
  await bob.sees("@bob now");
  assert.deepEqual((await told())[1], [{ title: "alice mentioned you in Hall", body: "@bob now", tag: "hall" }]);
  await alice.say(direct.id, "between us");
  await until("the direct message is told", async () => (await told())[1][1]?.title === "Message from alice");
  // A connection that breaks and comes back tells nothing a second time.
  await page.setOfflineMode(true);
  await alice.say("hall", "@bob again");
  await page.setOfflineMode(false);
  await bob.sees("@bob again");
  assert.deepEqual((await told())[1].map(({ body }) => body), ["@bob now", "between us", "@bob again"]);

  // Off again.
  await look();
  await bob.click(".account");
  await page.waitForSelector("dialog .check input");
  await bob.click("dialog .check input");
  await bob.press("Close", "dialog");
  await look(elsewhere);
  await alice.say("hall", "@bob no more");
  await bob.sees("@bob no more");
  assert.equal((await told())[1].length, 3);
  await bob.leave();
  await node.kill();
}

// What people do all day, as they do it: by clicking, typing, pasting, by keys alone.
import assert from "node:assert/strict";
import { Api, Person } from "../pages.mjs";
import { until } from "../servers.mjs";

/** A picture of one pixel. */
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export default async function (world) {
  const [first, second] = await world.shared();
  const bobApi = await Api.register(second.url, "bob");
  const [alice, bob] = [await Person.at(world.browser, first.url, "alice"), await Person.at(world.browser, second.url, "bob")];

  // Alice makes an account and a private room, by the page alone.
  await alice.page.goto(first.url);
  await alice.press("New here? Create an account");
  await alice.fill("User name", "alice");
  await alice.fill("Display name (optional)", "Alice A.");
  await alice.fill("Password", "a long password of alice");
  await alice.press("Create account", "form");
  await alice.page.waitForSelector(".sidebar");
  await alice.press("New room", ".sidebar header");
  await alice.fill("Name", "Quiet Corner");
  await alice.click(".kind:nth-of-type(2)");
  await alice.press("Create room", "dialog");
  await alice.page.waitForSelector('.room[href="/r/quiet-corner"][aria-current]');
  await alice.connected();

  // Bob comes in by an invitation's link.
  await alice.press("More", ".room-head");
  await alice.press("Invite", ".popover");
  await alice.press("Make invitation", "dialog");
  const link = await until("the link is shown", () => alice.page.$eval("dialog input[readonly]", (one) => one.value));
  await alice.press("Close", "dialog");
  await bob.signIn("/join" + new URL(link).hash);
  await bob.page.waitForSelector('.room[href="/r/quiet-corner"][aria-current]');
  await bob.connected();

  // Mentions are completed by keys; whoever is called sees it in the list, while elsewhere.
  await bob.open("quiet-corner");
  await bob.page.goto(`${second.url}/`);
  await bob.page.waitForSelector(".no-room");
  await bob.connected();
  await until("alice knows of bob", async () => {
    await alice.page.focus(".composer textarea");
    await alice.page.keyboard.down("Control");
    await alice.page.keyboard.press("a");
    await alice.page.keyboard.up("Control");
    await alice.page.keyboard.press("Delete");
    await alice.page.keyboard.type("Hello @bo");
    return alice.page.$(".suggestions [aria-selected=true]");
  }, { every: 500 });
  await alice.page.keyboard.press("Enter");
  await alice.page.keyboard.type("and welcome");
  await alice.page.keyboard.press("Enter");
  await alice.sees("Hello @bob and welcome");
  await bob.page.waitForSelector('.room[href="/r/quiet-corner"] .badge.calls');
  await until("the title counts it", async () => (await bob.page.title()).startsWith("(1)"));
  await bob.page.keyboard.down("Alt");
  await bob.page.keyboard.press("ArrowDown");
  await bob.page.keyboard.up("Alt");
  await bob.sees("Hello @bob and welcome");
  await until("it is read", async () => !(await bob.page.$(".badge")));
  await alice.page.waitForSelector(".readers");

  // Typing, reactions, replies, threads.
  await bob.write("I am wri");
  await alice.shows("bob is typing…", ".typing");
  await bob.page.keyboard.type("ting");
  await bob.page.keyboard.press("Enter");
  await alice.tool("I am writing", "Add reaction 👍");
  await bob.page.waitForSelector(".reaction");
  assert.equal(await bob.page.$eval(".reaction", (one) => one.getAttribute("aria-pressed")), "false");
  await bob.click(".reaction");
  await until("both are counted", () => alice.page.$eval(".reaction", (one) => /2$/.test(one.textContent)));
  await bob.click(".reaction");
  await until("and one again", () => alice.page.$eval(".reaction", (one) => /1$/.test(one.textContent)));
  await alice.tool("I am writing", "Reply");
  await alice.says("An answer");
  await bob.sees("An answer");
  await bob.page.waitForSelector(".quote");
  await bob.press("1 reply", ".timeline");
  await bob.shows("An answer", ".panel .thread");
  await bob.page.type(".panel .composer textarea", "deeper");
  await bob.page.keyboard.press("Enter");
  await bob.shows("deeper", ".panel .thread");
  await until("alice sees the thread grow", () => alice.page.$$eval(".replies", (all) => all.some((one) => /2 replies/.test(one.textContent))));
  await bob.press("Close", ".panel");

  // Edit by the arrow key, delete by the menu.
  await alice.page.focus(".composer textarea");
  await alice.page.keyboard.press("ArrowUp");
  await alice.page.waitForSelector(".composer .context");
  await alice.page.keyboard.type(", at last");
  await alice.page.keyboard.press("Enter");
  await bob.sees("An answer, at last");
  await bob.page.waitForSelector(".edited");
  await alice.menu("An answer, at last", "Delete");
  await alice.press("Delete", "dialog");
  await bob.sees("This message was deleted.");

  // Pins.
  await alice.menu("Hello @bob and welcome", "Pin");
  await alice.page.waitForSelector(".pinned");
  await bob.press("Pinned", ".room-head");
  await bob.shows("Hello @bob and welcome", ".panel");
  await bob.press("Close", ".panel");

  // A picture is pasted, shown while it goes, and seen by the other.
  await alice.page.focus(".composer textarea");
  await alice.page.evaluate((data) => {
    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "point.png", { type: "image/png" }));
    const event = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
    document.activeElement.dispatchEvent(event);
  }, PNG);
  await alice.page.waitForSelector(".attached img");
  await alice.page.keyboard.type("A point");
  await alice.page.keyboard.press("Enter");
  await until("bob sees the picture", () => bob.page.$eval(".picture img", (one) => one.complete && one.naturalWidth === 1), { within: 15_000 });

  // Search finds it, and its link leads there.
  await bob.press("Search", ".room-head");
  await until("the index has followed", async () => {
    await bob.fill("Search", "welcome");
    await bob.page.keyboard.press("Enter");
    await new Promise((resolve) => setTimeout(resolve, 300));
    return bob.page.$(".panel .results mark");
  });
  await bob.click(".panel .results a");
  await bob.page.waitForSelector(".message.marked");
  assert.match(new URL(bob.page.url()).pathname, /^\/r\/quiet-corner\/\d+$/);
  await bob.press("Close", ".panel");

  // A day: the first message of it comes into sight.
  await bob.press("Go to date", ".room-head");
  await bob.page.$eval("dialog input", (one) => {
    one.value = "2020-01-01T00:00";
    one.dispatchEvent(new Event("input", { bubbles: true }));
  });
  await bob.press("Go", "dialog");
  await until("the first message is marked", () => bob.page.$(".message.marked[data-seq='1']"));

  // A report, and what a moderator makes of it.
  await alice.says("something rude");
  await bob.menu("something rude", "Report");
  await bob.fill("What is wrong with it?", "It is rude");
  await bob.press("Report", "dialog");
  await bob.shows("Reported to the moderators");
  await alice.press("More", ".room-head");
  await alice.press("Reports", ".popover");
  await alice.shows("It is rude", ".panel");
  await alice.press("Delete message", ".panel");
  await alice.shows("Nothing to decide", ".panel");
  await until("it is gone", async () => !(await bob.texts()).includes("something rude"));
  await alice.press("Close", ".panel");

  // Roles, and what follows from them.
  await alice.press("People", ".room-head");
  await alice.press("More bob", ".panel");
  await alice.fill("Role of bob", "muted");
  await alice.shows("Saved");
  await bob.says("may I?");
  await bob.page.waitForSelector(".pending.failed");
  await bob.press("Discard", ".pending");
  await alice.fill("Role of bob", "moderator");
  await until("the role is back", async () => (await bobApi.call("GET", "rooms/quiet-corner")).role === "moderator");
  await alice.press("Close", ".panel");

  // Settings are told to everybody.
  await alice.press("More", ".room-head");
  await alice.press("Room settings", ".popover");
  await alice.fill("What it is about", "Tea");
  await alice.press("Save", "dialog");
  await bob.shows("alice changed the topic: Tea", ".change");
  await bob.shows("Tea", ".room-head");

  // A webhook; one with an address that may not be is refused, and says why.
  await alice.press("More", ".room-head");
  await alice.press("Room settings", ".popover");
  await alice.press("Webhooks", "dialog");
  await alice.fill("Address (https://…)", "ftp://example.org/");
  await alice.press("Add webhook", "dialog");
  await alice.shows("The server does not accept this.", ".hooks");
  await alice.fill("Address (https://…)", "https://example.org/hook");
  await alice.press("Add webhook", "dialog");
  await until("its secret is shown", () => alice.page.$eval(".hooks input[readonly]", (one) => one.value.length > 20));
  await alice.press("Turn off", ".hooks");
  await alice.press("Turn on", ".hooks");
  await alice.press("Remove", ".hooks");
  await alice.press("Remove", "dialog .buttons");
  await alice.shows("There are no webhooks.", ".hooks");
  await alice.press("Close", "dialog");

  // A direct conversation from the finder, by keys alone.
  await bob.page.keyboard.down("Control");
  await bob.page.keyboard.press("k");
  await bob.page.keyboard.up("Control");
  await until("the finder has the focus", () => bob.page.evaluate(() => document.activeElement?.type === "search"));
  await bob.page.keyboard.type("alice");
  await bob.page.waitForSelector(".person-match");
  await bob.page.keyboard.press("Enter");
  await until("the room of the two is open", () => bob.page.$eval(".room-head h1", (one) => one.textContent === "alice"));
  await bob.connected();
  await bob.says("just us");
  await bob.sees("just us");

  // The look and the language are chosen, and kept.
  await bob.click(".account");
  await bob.fill("Theme", "dark");
  await bob.fill("Language", "ja");
  await bob.shows("アカウント", "dialog");
  const ground = await bob.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await bob.page.reload();
  await bob.shows("ダイレクトメッセージ", ".sidebar");
  assert.equal(await bob.page.evaluate(() => getComputedStyle(document.body).backgroundColor), ground);
  assert.equal(await bob.page.evaluate(() => document.documentElement.lang), "ja");

  // Everything of one's own, as a file; another session, ended.
  await alice.click(".account");
  const href = await alice.page.waitForSelector("dialog a[download]").then((one) => one.evaluate((link) => link.href));
  const text = await alice.page.evaluate(async (url) => (await fetch(url)).text(), href);
  assert.match(text, /"type":"end"/);
  // A token for a program: it works within its scopes until it is taken back.
  await alice.press("Access tokens", "dialog");
  await alice.fill("What it is for", "a bot");
  await alice.press("Make token", "dialog");
  const token = await until("the token is shown", () => alice.page.$eval(".tokens input[readonly]", (one) => one.value));
  const bot = new Api(first.url, token);
  assert.equal((await bot.call("GET", "me")).user.id, "alice");
  await assert.rejects(bot.say("quiet-corner", "beep"), /403.*write/);
  await alice.press("Revoke", ".tokens");
  await alice.shows("There are no access tokens.", ".tokens");
  await assert.rejects(bot.call("GET", "me"), /401/);
  const other = await new Api(first.url).call("POST", "login", { user: "alice", password: "a long password of alice" });
  await alice.press("Close", "dialog");
  await alice.click(".account");
  await alice.page.waitForSelector(".sessions li:nth-child(2)");
  await alice.press("End", ".sessions");
  await alice.shows("Ended");
  await assert.rejects(new Api(first.url, other.token).call("GET", "me"), /401/);
  await alice.press("Close", "dialog");
  await bob.leave();
  await alice.leave();
}

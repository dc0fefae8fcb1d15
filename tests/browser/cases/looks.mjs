// Every part of the page in light and dark, English and Japanese: axe-core finds nothing serious. The pictures of the README are
// made on the way.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Api, Person } from "../pages.mjs";

const WORDS = {
  en: {
    language: "en-US", close: "Close", people: "People", pins: "Pinned", search: "Search", more: "More", settings: "Room settings",
    invite: "Invite", reports: "Reports", browse: "Browse rooms", create: "New room", replies: "2 replies", latest: "Latest messages",
  },
  ja: {
    language: "ja-JP", close: "閉じる", people: "メンバー", pins: "ピン留め", search: "検索", more: "その他", settings: "ルームの設定",
    invite: "招待", reports: "報告", browse: "ルーム一覧", create: "新しいルーム", replies: "返信 2件", latest: "最新のメッセージ",
  },
};

async function furnish(node) {
  const people = {};
  for (const name of ["alice", "bob", "carol", "dave"]) people[name] = await Api.register(node.url, name);
  const { alice, bob, carol, dave } = people;
  const rooms = [
    ["design", "Design", "What it should feel like", "public"],
    ["release", "Release 2.0", "Thursday, 14:00", "public"],
    ["kyoto", "京都オフィス", "京都オフィスの連絡用", "public"],
    ["board", "Board", "", "private"],
  ];
  for (const [id, name, topic, kind] of rooms) {
    await alice.call("POST", "rooms", { id, name, kind, ...(topic && { topic }) });
    if (kind === "public") for (const one of [bob, carol, dave]) await one.call("POST", `rooms/${id}/join`);
  }
  const { seq: first } = await bob.say("design", "Morning! The new onboarding is up on the staging server.\nHave a look when you have a minute: https://staging.example.org/welcome");
  await bob.say("design", "The last step is still open, on purpose.");
  await carol.say("design", "お疲れさまです!早速見てみました。とても見やすくなりましたね 🎉");
  await dave.say("design", "The empty state reads well now. Two things: the button is below the fold on small screens, and `retry()` wants a longer pause.");
  await dave.say("design", "```\nawait room.send(text);  // resolves at commit\n```");
  await bob.say("design", "Good points. @alice can you take the first one?");
  await carol.say("design", "I can do the copy today.", { reply_to: first });
  await dave.say("design", "And I the icons.", { reply_to: first });
  await alice.call("PUT", `rooms/design/pins/${first}`);
  await alice.call("PUT", "rooms/design/read", { seq: 8 });
  await bob.say("release", "Anything left for the notes?");
  await carol.say("kyoto", "@alice 明日の会議は10時からでお願いします。");
  const direct = await carol.call("POST", "direct", { user: "alice" });
  await carol.say(direct.id, "少しお時間ありますか?");
  await carol.call("POST", "rooms/design/messages/2/reports", { reason: "Only to try it out" });
  return people;
}

export default async function (world) {
  const node = await world.node();
  await furnish(node);
  const pictures = process.env.BROWSER_PICTURES ?? join(process.env.BROWSER_MODULES, "pictures");
  mkdirSync(pictures, { recursive: true });
  const picture = (person, name) => person.page.screenshot({ path: join(pictures, `${name}.png`) });
  const found = [];

  for (const [code, words] of Object.entries(WORDS)) {
    for (const dark of [false, true]) {
      const look = `${code}, ${dark ? "dark" : "light"}`;
      const alice = await Person.at(world.browser, node.url, "alice", { language: words.language, dark, width: 1200, height: 760 });
      const { page } = alice;
      const check = async (where) => {
        for (const one of await alice.axe()) {
          // The same fault in every look is said once.
          if (!found.some((known) => known.endsWith(one))) found.push(`${where} (${look}): ${one}`);
        }
      };
      await page.goto(node.url);
      await page.waitForSelector(".door form");
      await check("door");
      await alice.signIn();
      await check("rooms");
      await alice.open("design");
      await alice.sees("And I the icons.");
      if (await page.$(".to-latest")) await alice.click(".to-latest");
      // In the first look; in the others it is there.
      if (code === "en" && !dark) await alice.tool("Good points. @alice can you take the first one?", "Add reaction 👍");
      await page.waitForSelector(".reaction");
      await alice.press(words.replies, ".timeline");
      await alice.shows("I can do the copy today.", ".panel");
      await page.mouse.move(5, 5);
      await check("thread");
      if (code === "en" && !dark) await picture(alice, "chat-light");
      if (code === "ja" && dark) await picture(alice, "chat-dark-ja");
      await alice.press(words.close, ".panel");
      for (const [button, what] of [[words.people, "people"], [words.pins, "pins"], [words.search, "search"]]) {
        await alice.press(button, ".room-head");
        await page.waitForSelector(".panel");
        await check(what);
        await alice.press(words.close, ".panel");
      }
      await alice.press(words.more, ".room-head");
      await page.waitForSelector(".popover");
      await check("menu");
      await alice.press(words.reports, ".popover");
      await page.waitForSelector(".report");
      await check("reports");
      await alice.press(words.close, ".panel");
      for (const item of [words.settings, words.invite]) {
        await alice.press(words.more, ".room-head");
        await alice.press(item, ".popover");
        await page.waitForSelector("dialog[open]");
        await page.$$eval("dialog details", (all) => all.forEach((one) => (one.open = true)));
        await check(item);
        await alice.press(words.close, "dialog");
      }
      for (const item of [words.browse, words.create]) {
        await alice.press(item, ".sidebar");
        await page.waitForSelector("dialog[open]");
        await check(item);
        await alice.press(words.close, "dialog");
      }
      await alice.click(".account");
      await page.waitForSelector("dialog[open] .sessions li");
      await page.$$eval("dialog details", (all) => all.forEach((one) => (one.open = true)));
      await check("account");
      await alice.press(words.close, "dialog");

      // Narrow: nothing is wider than the screen.
      await page.setViewport({ width: 390, height: 800 });
      await page.waitForSelector(".only-narrow");
      await check("narrow room");
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is no wider than the screen");
      if (code === "ja" && !dark) await picture(alice, "phone-room-ja");
      await alice.click(".only-narrow");
      await page.waitForSelector(".list-open .sidebar");
      await check("narrow list");
      if (code === "en" && dark) await picture(alice, "phone-rooms-dark");
      await alice.leave();
    }
  }
  assert.deepEqual(found, []);
  await node.kill();
}

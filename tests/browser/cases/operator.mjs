// The operators' page of three nodes: figures move while messages are sent, a room is found, a node is drained from the page and is
// seen to go on its neighbour's; it says when its node is gone; English and Japanese, light and dark, wide and narrow.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Api, Person } from "../pages.mjs";
import { until } from "../servers.mjs";

/** The nodes, that first which owns most of these rooms: it shows its own figures, and may own none of six. */
async function byRooms(nodes, rooms) {
  const owned = new Map();
  for (const room of rooms) {
    const { owner } = await nodes[0].cluster(`?room=${room}`);
    owned.set(owner, (owned.get(owner) ?? 0) + 1);
  }
  const counted = await Promise.all(nodes.map(async (node) => ({ node, count: owned.get((await node.cluster()).node) ?? 0 })));
  return counted.sort((a, b) => b.count - a.count).map(({ node }) => node);
}

export default async function (world) {
  const rooms = ["announcements", "design", "general", "kyoto", "release", "support"];
  const [first, second, third] = await byRooms(await world.cluster(), rooms);
  const pictures = process.env.BROWSER_PICTURES ?? join(process.env.BROWSER_MODULES, "pictures");
  mkdirSync(pictures, { recursive: true });
  const found = [];
  const check = async (person, where) => {
    for (const one of await person.axe()) found.push(`${where}: ${one}`);
  };
  const text = (person, selector) => person.page.$eval(selector, (one) => one.textContent);
  const figure = async (person, name) => Number((await text(person, `#value-${name}`)).replaceAll(/[^0-9.]/g, ""));

  // Somebody writes for as long as the page is looked at: in some rooms more than in others.
  const api = await Api.register(first.url, "mika");
  for (const id of rooms) await api.call("POST", "rooms", { id, kind: "public", name: id });
  const readers = [];
  for (const node of [first, second, third]) {
    const reader = await Person.at(world.browser, node.url, "mika");
    await reader.signIn();
    await reader.open("general");
    readers.push(reader);
  }
  let writes = true;
  const writing = (async () => {
    for (let at = 0; writes; at++) {
      await api.say(rooms[Math.floor(rooms.length * (((at * 7) % 12) / 12) ** 2)], `message ${at}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    // Its node is drained and ends before it does.
  })().catch(() => {});

  const id = (await first.cluster()).node;
  const jonas = await Person.at(world.browser, first.admin, "jonas");
  const outside = [];
  jonas.page.on("request", (request) => {
    if (!request.url().startsWith(first.admin)) outside.push(request.url());
  });
  await jonas.page.goto(first.admin);
  await jonas.shows(id, "#node");
  await jonas.shows("ready", "#state");
  await until("three nodes are listed", async () => (await jonas.page.$$("#nodes tr")).length === 3);
  await until("messages are counted", async () => (await figure(jonas, "messages")) > 0 && (await figure(jonas, "deliveries")) > 0);
  await until("commits are timed", async () => (await figure(jonas, "commits")) > 0);
  await until("every node is seen to have a session", () => jonas.page.$$eval("#nodes tr", (rows) => rows.every((row) => Number(row.cells[2].textContent) >= 1)));
  await until("rooms are named", async () => (await jonas.page.$$("#rooms tr")).length > 0);
  assert.equal(await jonas.page.$$eval("#map rect", (all) => all.filter((one) => /^o\d$/.test(one.getAttribute("class"))).length), 1024, "every shard has a colour");
  assert.match(await jonas.page.$eval("#map", (map) => map.getAttribute("aria-label")), /^1,024 shards: n-\w+ has \d+, n-\w+ has \d+, n-\w+ has \d+$/);
  const named = await jonas.page.$eval("#rooms tr", (row) => row.dataset.room);
  assert.equal((await first.cluster(`?room=${named}`)).owner, id, "the busiest rooms are this node's own");
  // Curves have come so far that there is something to see.
  await until("the curves move", () => jonas.page.$eval("#cards polyline", (line) => line.getAttribute("points").split(" ").length >= 8));

  await jonas.page.type("#room", "general");
  await jonas.page.keyboard.press("Enter");
  const { owner, shard } = await first.cluster("?room=general");
  await jonas.shows(`general is in shard ${shard}, which ${owner} owns.`, "#found");
  assert.equal((await jonas.page.$$("#map .seek")).length, 1);
  await jonas.page.$eval("#room", (field) => (field.value = ""));
  await jonas.page.type("#room", "<img src=x>");
  await jonas.page.keyboard.press("Enter");
  await jonas.shows("That is no room id", "#found");
  await jonas.page.$eval("#room", (field) => (field.value = ""));
  await jonas.page.type("#room", "general");
  await jonas.page.keyboard.press("Enter");
  await jonas.shows("general is in shard", "#found");
  await check(jonas, "light");
  await jonas.page.evaluate(() => (document.activeElement?.blur(), scrollTo(0, 0)));
  await jonas.page.setViewport({ width: 1200, height: 1000 });
  await jonas.page.screenshot({ path: join(pictures, "operator.png"), fullPage: true });

  // Paused, nothing is asked; and what is shown has its time.
  await jonas.press("Pause");
  await jonas.shows("Paused · figures of", "#age");
  const asked = [];
  jonas.page.on("request", (request) => asked.push(request.url()));
  // Longer than between two questions.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  assert.deepEqual(asked, []);
  await jonas.press("Pause");
  await until("it goes on", () => asked.length > 1);

  // Japanese and dark, at the second node; then the switch, which is remembered.
  const aiko = await Person.at(world.browser, second.admin, "aiko", { language: "ja-JP", dark: true, width: 390, height: 800 });
  await aiko.page.goto(second.admin);
  await aiko.shows("クラスターのノード", "h2");
  await aiko.shows("稼働中", "#state");
  assert.equal(await aiko.page.evaluate(() => document.documentElement.lang), "ja");
  assert.ok(await aiko.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is no wider than the screen");
  await check(aiko, "Japanese, dark, narrow");
  await aiko.page.screenshot({ path: join(process.env.BROWSER_MODULES, "operator-narrow.png"), fullPage: true });
  await aiko.page.select("#language", "en");
  await aiko.shows("Nodes of the cluster", "h2");
  await aiko.page.reload();
  await aiko.shows("Nodes of the cluster", "h2");
  await aiko.page.select("#language", "ja");

  // A drain: not without being sure.
  await jonas.press("Drain this node", "main");
  await jonas.shows("hands over its", "#sure-text");
  await check(jonas, "dialog");
  await jonas.page.keyboard.press("Escape");
  await until("the dialog is closed", () => jonas.page.$eval("#sure", (dialog) => !dialog.open));
  assert.equal((await fetch(`${first.admin}/readyz`)).status, 200);
  await jonas.press("Drain this node", "main");
  await jonas.press("Keep it", "#sure");
  assert.equal((await fetch(`${first.admin}/readyz`)).status, 200);
  await jonas.press("Drain this node", "main");
  await jonas.press("Drain this node", "#sure");
  await jonas.shows("draining", "#state");
  await jonas.shows("Nothing is left here", "#drain-says");
  await jonas.shows("Shards left: 0 of", "#shards-left");
  await jonas.shows("Sessions left: 0 of", "#sessions-left");
  assert.equal(await jonas.page.$eval("#drain", (button) => button.checkVisibility()), false, "once is enough");
  await check(jonas, "drained");
  const row = (person, column) => person.page.$eval(`#nodes tr[data-node="${id}"]`, (one, at) => one.cells[at].textContent, column);
  await until("the neighbour sees it drained", async () => (await row(aiko, 1)) === "ドレイン中" && (await row(aiko, 4)) === "0");
  await first.terminate();
  await until("the neighbour sees it gone", async () => (await row(aiko, 1)) === "消失");
  await jonas.shows("This node does not answer", "#notice");
  await until("how old the figures are", async () => /^Figures of .* old$/.test(await text(jonas, "#age")));
  await check(jonas, "gone");

  writes = false;
  await writing;
  assert.deepEqual(outside, [], "nothing is asked of anybody else");
  assert.deepEqual(found, []);
  for (const one of [jonas, aiko]) await one.leave();
  for (const one of readers) await one.context.close();
  for (const one of [second, third]) await one.kill();
}

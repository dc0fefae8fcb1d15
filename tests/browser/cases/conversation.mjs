// Two people talk across nodes while the page's own node is drained, and the other's is killed: nothing is lost, doubled or out
// of order on the screen, at no moment.
import assert from "node:assert/strict";
import { Api, Person } from "../pages.mjs";
import { balancer, until } from "../servers.mjs";

const ROUNDS = 45;

/** Looks at each frame: is any text there twice, do the numbers rise? And keeps each state of the connection that the page tells, also
 * while another page is in front, where there are no frames. */
const watcher = () => {
  globalThis.wrong = [];
  globalThis.states = [];
  const look = () => {
    const rows = [...document.querySelectorAll(".timeline .message")];
    const texts = rows.map((row) => row.querySelector(".text")?.textContent ?? "");
    const twice = texts.find((text, at) => texts.indexOf(text) !== at);
    if (twice && globalThis.wrong.length < 10) globalThis.wrong.push(`twice: ${twice}`);
    const numbers = rows.filter((row) => row.dataset.seq).map((row) => Number(row.dataset.seq));
    const back = numbers.find((seq, at) => at > 0 && seq <= numbers[at - 1]);
    if (back && globalThis.wrong.length < 10) globalThis.wrong.push(`out of order: ${numbers.join(" ")}`);
    requestAnimationFrame(look);
  };
  const told = () => {
    const state = document.querySelector(".connection")?.dataset.state;
    if (state && globalThis.states.at(-1) !== state) globalThis.states.push(state);
  };
  addEventListener("DOMContentLoaded", () => {
    look();
    new MutationObserver(told).observe(document.body, { subtree: true, childList: true, attributeFilter: ["data-state"] });
  });
};

export default async function (world) {
  await talk(world, { sockets: true, drain: (node) => fetch(`${node.admin}/drain`, { method: "POST" }) });
}

export async function talk(world, { sockets, drain }) {
  const nodes = await world.cluster();
  const [first, second, third] = nodes;
  const alice = await Api.register(third.url, "alice");
  const bob = await Api.register(third.url, "bob");
  await alice.call("POST", "rooms", { id: "talk", kind: "public", name: "Talk" });
  await bob.call("POST", "rooms/talk/join");
  const beforeAlice = await balancer([first, third], { sockets });
  const beforeBob = await balancer([second, third], { sockets });
  const at = await Promise.all(
    [["alice", beforeAlice.url], ["bob", beforeBob.url]].map(async ([user, url]) => {
      const person = await Person.at(world.browser, url, user, { before: watcher, height: 7_000, width: 900 });
      await person.signIn();
      await person.open("talk");
      return person;
    }),
  );
  const said = { alice: [], bob: [] };
  const speak = async (person) => {
    // Each tab is in the background of the other: what is typed goes to the one in front.
    await person.page.bringToFront();
    const text = `${person.user} ${said[person.user].length}`;
    said[person.user].push(text);
    await person.says(text);
  };
  for (let round = 0; round < ROUNDS; round++) {
    if (round === 12) {
      // As a balancer does that asks /readyz: no new connections to a node that drains.
      beforeAlice.targets = [third];
      await drain(first);
    }
    if (round === 28) {
      const dead = second.kill();
      // The connection stays until the balancer finds nobody there.
      for (let more = 0; more < 3; more++) for (const person of at) await speak(person);
      await dead;
    }
    for (const person of at) await speak(person);
  }
  const all = [...said.alice, ...said.bob];
  for (const person of at) {
    await until(`${person.user} sees all of it`, async () => {
      const texts = await person.texts();
      return all.every((text) => texts.includes(text)) && (await person.page.$$(".pending")).length === 0;
    }, { within: 60_000 });
  }
  const log = (await new Api(third.url, alice.token).log("talk")).filter((entry) => entry.kind === "message").map((entry) => entry.text);
  for (const person of at) {
    assert.deepEqual(await person.texts(), log, `${person.user} sees the log`);
    assert.deepEqual(await person.page.evaluate(() => globalThis.wrong), [], `what ${person.user} saw on the way`);
  }
  assert.equal(log.length, all.length, "each message is in the log once");
  for (const user of ["alice", "bob"]) {
    assert.deepEqual(log.filter((text) => text.startsWith(user)), said[user], `${user}'s own order`);
  }
  for (const person of at) await person.connected();
  const states = await Promise.all(at.map((person) => person.page.evaluate(() => globalThis.states)));
  if (sockets) assert.ok(states[0].includes("draining"), `alice was told of the drain: ${states[0]}`);
  assert.deepEqual(states.map((all) => all.at(-1)), ["live", "live"]);
  for (const one of [beforeAlice, beforeBob]) assert.equal(one.refused > 0, !sockets, "WebSockets are refused where they should be");
  console.log(`        connection as alice saw it: ${states[0].join(" → ")}; as bob did: ${states[1].join(" → ")}`);
  for (const person of at) await person.leave();
  for (const one of [beforeAlice, beforeBob]) one.close();
  for (const one of [first, third]) await one.kill();
}

// Three nodes, people who write and read on all of them, and nodes that are killed, frozen and drained under it.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Cluster, client, tidiesUp, Reader, until, within } from "./support.mjs";

const SEED = Number(process.env.SEED ?? 1);
const FAULTS = 8;
const ROOMS = 4;
const PEOPLE = 6;
let cluster;
tidiesUp();
after(() => cluster?.stop());

let state = SEED;
const random = (below) => (state = (state * 48271) % 2147483647) % below;

test(`node kills under load: nothing is lost, repeated or reordered (seed ${SEED})`, async () => {
  cluster = await Cluster.start(3);
  const streams = await fetch(`${cluster.urls[0]}/api/v1/stream`, { method: "POST" }).then(({ status }) => status !== 405 && status !== 404, () => false);
  const rooms = Array.from({ length: ROOMS }, (_, n) => `chaos-${n}`);
  const people = [];
  const patience = { pongMs: 3000, connectMs: 3000, answerMs: 8000 };
  for (let n = 0; n < PEOPLE; n++) {
    const urls = cluster.urls.map((_, at, all) => all[(at + n) % all.length]);
    const one = client(urls, `person-${n}`, { patience, encoding: n % 2 ? "msgpack" : "json", transport: streams && n === PEOPLE - 1 ? "stream" : "auto" });
    await within("online", one.connect());
    if (n === 0) for (const id of rooms) await one.api.makeRoom({ id, kind: "public" });
    const places = [];
    for (const id of rooms) {
      const room = one.room(id);
      await room.join();
      const reader = new Reader(room);
      await room.subscribe({ after: 0 });
      places.push({ room, reader, sent: [] });
    }
    people.push({ one, places });
  }
  let over = false;
  const reconnects = { count: 0 };
  for (const { one } of people) one.on("online", () => reconnects.count++);
  const writing = people.flatMap(({ one, places }) => places.map(async ({ room, sent }) => {
    // Two under way at a time, so that their order is put to the test as well.
    for (let n = 0; !over; n++) {
      const pair = [`${one.user.id} ${n}a`, `${one.user.id} ${n}b`].map((text) => ({ text, answer: room.send(text) }));
      sent.push(...pair);
      await Promise.all(pair.map(({ answer }) => answer));
    }
  }));
  const log = [];
  for (let fault = 0; fault < FAULTS; fault++) {
    const node = cluster.nodes[random(cluster.nodes.length)];
    const kind = ["kill", "kill", "freeze", "drain"][random(4)];
    log.push(kind);
    const before = people.map(({ places }) => places.map(({ sent }) => sent.length));
    if (kind === "freeze") {
      node.child.kill("SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, 4000)); // the length of the fault: longer than a lease
      node.child.kill("SIGCONT");
    } else {
      await (kind === "kill" ? node.kill() : node.stop());
      await node.startAgain();
    }
    // Everybody gets on before the next one.
    await until(`progress after ${log}`, () => people.every(({ places }, n) => places.every(({ sent }, at) => sent.length > before[n][at] + 1)));
  }
  over = true;
  await within("all is committed", Promise.all(writing));
  for (const [at, id] of rooms.entries()) {
    const sent = people.flatMap(({ places }) => places[at].sent);
    const answers = await Promise.all(sent.map(({ answer }) => answer));
    const head = sent.length;
    assert.deepEqual(answers.map(({ seq }) => seq).sort((a, b) => a - b), Array.from({ length: head }, (_, n) => n + 1), `${id}: every message once, and nothing else`);
    for (const { one, places } of people) {
      const { reader, sent: own } = places[at];
      await reader.sees(head);
      assert.deepEqual(reader.wrong, [], `${one.user.id} in ${id}`);
      assert.equal(reader.entries.length, head);
      assert.deepEqual(reader.entries, people[0].places[at].reader.entries, "the same for all");
      const mine = reader.entries.filter(({ user }) => user === one.user.id).map(({ text }) => text);
      assert.deepEqual(mine, own.map(({ text }) => text), "in the order in which they were sent");
    }
  }
  const total = people.flatMap(({ places }) => places.flatMap(({ sent }) => sent)).length;
  console.log(`# ${total} messages, ${log.join(", ")}, ${reconnects.count} reconnects`);
  assert.ok(reconnects.count > 0);
});

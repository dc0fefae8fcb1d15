// The client when things go wrong: cut and silent connections, drains, kills, sleep, clocks that are set.

import assert from "node:assert/strict";
import path from "node:path";
import readline from "node:readline";
import { before, mock, test } from "node:test";

import { MemoryStorage, newId } from "../../target/sdk/under_test.mjs";
import { client, tidiesUp, event, Proxy, reaches, Reader, run, Server, token, until, within } from "./support.mjs";

const IMPATIENT = { patience: { pongMs: 1500, connectMs: 3000, answerMs: 3000 } };
let server;
tidiesUp();
before(async () => {
  server = await Server.start();
});

async function room() {
  const owner = client(server.url, "erin");
  await owner.connect();
  const id = `room-${newId()}`;
  await owner.api.makeRoom({ id, kind: "public" });
  return [id, owner.room(id)];
}

for (const encoding of ["json", "msgpack"]) {
  test(`connections that are cut all the time lose, double and reorder nothing (${encoding})`, async () => {
    const [id, theirs] = await room();
    const proxy = await Proxy.start(server);
    const quick = { ...IMPATIENT, encoding };
    const alice = client(proxy.url, "alice", quick);
    await alice.connect();
    await alice.room(id).join();
    const reader = new Reader(alice.room(id));
    const other = new Reader(theirs);
    await Promise.all([alice.room(id).subscribe(), theirs.subscribe()]);
    const texts = [];
    const sent = [];
    for (let round = 0; round < 8; round++) {
      const mine = [];
      if (round % 2 === 1) {
        await within("nothing waits", Promise.all(sent));
        proxy.mute = true;
      }
      for (let n = 0; n < 10; n++) {
        texts.push(`${round}.${n}`);
        mine.push(alice.room(id).send(texts.at(-1)));
        if (n % 3 === 0) sent.push(theirs.send(`other ${round}.${n}`));
      }
      sent.push(...mine);
      // Somewhere in the middle of what is under way; or behind a commit whose answer is lost.
      const first = texts.at(-10);
      if (proxy.mute) await until("committed", () => other.texts.includes(first));
      else await mine[round % 8];
      const back = event(alice, "online");
      proxy.mute = false;
      proxy.cut();
      await back;
    }
    await within("all are committed", Promise.all(sent));
    const { head } = await theirs.history({ limit: 1 }).then(({ events }) => ({ head: events[0].seq }));
    assert.equal(head, sent.length, "each message is in the log once");
    await Promise.all([reader.sees(head), other.sees(head)]);
    assert.deepEqual([...reader.wrong, ...other.wrong], []);
    assert.deepEqual(reader.texts.filter((text) => !text.startsWith("other")), texts, "in the order in which they were sent");
    assert.deepEqual(reader.entries, other.entries);
    assert.ok(proxy.accepted > 8, `${proxy.accepted} connections`);
  });
}

test("a connection that falls silent is noticed by the heartbeat, and said to be slow before", async () => {
  const [id, theirs] = await room();
  const proxy = await Proxy.start(server);
  const alice = client(proxy.url, "alice", { patience: { pongMs: 4000 } });
  await alice.connect();
  const reader = new Reader(alice.room(id));
  await alice.room(id).subscribe();
  const slow = event(alice, "state", (state) => state.slow && state.phase === "online");
  const lost = event(alice, "offline");
  proxy.silent = true;
  alice.ping().catch(() => {});
  await theirs.send("unseen");
  await slow;
  assert.match((await lost).error.message, /does not answer/);
  proxy.silent = false;
  await reader.sees(1);
  assert.equal(alice.state.slow, false);
  assert.deepEqual(reader.wrong, []);
});

test("a drain is told, and the client moves on by itself, to another node", async () => {
  const draining = await Server.start();
  const alice = client([draining.url, server.url], "alice");
  await alice.connect();
  const notice = event(alice, "notice", ({ code }) => code === "draining");
  const said = event(alice, "state", (state) => state.draining);
  const back = event(alice, "online", ({ resumed }) => resumed);
  const began = performance.now();
  await draining.drain();
  await Promise.all([notice, said]);
  await back;
  assert.ok(performance.now() - began < 10_000);
  assert.equal(alice.state.draining, false);
  await draining.stop();
});

test("a server that is killed and comes back: what was said meanwhile is there, once", async () => {
  const node = await Server.start();
  const alice = client(node.url, "alice", IMPATIENT);
  await alice.connect();
  await alice.api.makeRoom({ id: "lobby", kind: "public" });
  const lobby = alice.room("lobby");
  const reader = new Reader(lobby);
  await lobby.subscribe();
  const phases = [];
  alice.on("state", ({ phase }) => phases.at(-1) !== phase && phases.push(phase));
  const sent = [];
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 5; n++) sent.push(lobby.send(`${round}.${n}`));
    await Promise.race(sent.slice(-5));
    await node.kill();
    sent.push(lobby.send(`${round} while away`));
    await node.startAgain();
    await within("back", reaches(alice, "online"));
  }
  const answers = await within("all are committed", Promise.all(sent));
  assert.deepEqual(answers.map(({ seq }) => seq), answers.map((_, at) => at + 1), "in order, once");
  await reader.sees(sent.length);
  assert.deepEqual(reader.wrong, []);
  assert.ok(phases.includes("waiting") && phases.includes("connecting"), String(phases));
  await node.kill();
});

test("a server that wants nobody back is obeyed; one that is full is come back to later", async () => {
  const full = await Server.start({ "limits.connections_per_ip": 1 });
  const first = client(full.url, "alice");
  await first.connect();
  const second = client(full.url, "bob");
  second.connect().catch(() => {});
  const { error } = await event(second, "state", (state) => state.phase === "waiting");
  assert.ok(["too_many_connections", "network"].includes(error.code) && error.retryable, error.code);
  await first.close();
  await within("its turn", reaches(second, "online"));
  await second.close();
  await full.kill();
  const banned = client(server.url, "dave");
  await banned.connect();
  const admin = client(server.url, "admin", { token: token("admin", 3600, { roles: ["admin"] }) });
  await admin.connect();
  const closed = reaches(banned, "closed");
  await admin.api.call("PUT", "admin/bans/dave");
  assert.equal((await closed).error.closeCode, 4003);
  await assert.rejects(banned.connect(), ({ code }) => code === "forbidden" || code === "revoked");
});

test("a process that is frozen and thawed goes on where it was", async () => {
  const [id, theirs] = await room();
  const proxy = await Proxy.start(server);
  const child = run(process.execPath, [path.resolve("tests/sdk/reader.mjs"), proxy.url, token("carol"), id], { stdio: ["ignore", "pipe", "inherit"] });
  const told = [];
  let wake = () => {};
  readline.createInterface({ input: child.stdout }).on("line", (line) => {
    told.push(JSON.parse(line));
    wake();
  });
  const says = (what, fits) => until(what, () => told.find(fits));
  await says("it is there", (line) => line.status === "live");
  await theirs.send("before");
  await says("the first entry", (line) => line.seq === 1);
  child.kill("SIGSTOP");
  await theirs.send("while it sleeps");
  // The network forgot the connection, without a word.
  proxy.silent = true;
  await new Promise((resolve) => setTimeout(resolve, 6000)); // the length of the sleep itself, not a wait for something
  child.kill("SIGCONT");
  await says("it noticed", (line) => line.woke);
  proxy.silent = false;
  const began = performance.now();
  await says("the second entry", (line) => line.seq === 2);
  assert.ok(performance.now() - began < 15_000);
  await theirs.send("after");
  await says("the third entry", (line) => line.seq === 3);
  assert.deepEqual(told.flatMap((line) => line.seq ?? []), [1, 2, 3]);
  child.kill("SIGKILL");
  await child.gone;
});

test("a clock that is set, forward or back, changes nothing but for a look whether all is well", async () => {
  const [id, theirs] = await room();
  const alice = client(server.url, "alice", IMPATIENT);
  await alice.connect();
  const reader = new Reader(alice.room(id));
  await alice.room(id).subscribe();
  const offline = [];
  alice.on("offline", (told) => offline.push(told));
  const real = Date.now;
  try {
    for (const by of [3_600_000 * 24 * 365, -3_600_000 * 24 * 365]) {
      const woke = event(alice, "woke");
      mock.method(Date, "now", () => real() + by);
      await woke;
      await theirs.send(`by ${by}`);
      await alice.ping();
    }
    await reader.sees(2);
  } finally {
    mock.restoreAll();
  }
  assert.deepEqual([offline, reader.wrong], [[], []]);
});

test("a page that ends in the middle of sending leaves nothing behind, and nothing doubled", async () => {
  const [id, theirs] = await room();
  const proxy = await Proxy.start(server);
  const storage = new MemoryStorage();
  const reader = new Reader(theirs);
  await theirs.subscribe();
  const texts = [];
  for (let page = 0; page < 4; page++) {
    const alice = client(proxy.url, "alice", { storage, user: "alice" });
    await alice.connect();
    if (page === 0) await alice.room(id).join();
    const sending = [];
    for (let n = 0; n < 6; n++) {
      texts.push(`${page}.${n}`);
      sending.push(alice.room(id).send(texts.at(-1)));
      sending.at(-1).catch(() => {});
    }
    if (page < 3) {
      await sending[1];
      // Asked, and not answered: the server may have taken it.
      proxy.silent = page === 1;
      await alice.close();
      proxy.cut();
      proxy.silent = false;
    } else await within("all", Promise.all(sending));
  }
  await reader.sees(texts.length);
  assert.deepEqual(reader.texts, texts);
  assert.deepEqual(reader.wrong, []);
});

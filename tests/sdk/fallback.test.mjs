// Where WebSockets are blocked: the same over server-sent events and posts.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { newId } from "../../target/sdk/under_test.mjs";
import { client, tidiesUp, event, Proxy, Reader, Server, within } from "./support.mjs";

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

test("everything one does in a room, by events and posts", async () => {
  const [id, theirs] = await room();
  const alice = client(server.url, "alice", { transport: "stream" });
  await within("online", alice.connect());
  assert.equal(alice.state.transport, "stream");
  const mine = alice.room(id);
  const reader = new Reader(mine);
  await mine.subscribe();
  await mine.join();
  const sent = Array.from({ length: 100 }, (_, n) => mine.send(`m${n} 日本語`));
  await theirs.send("theirs");
  await within("all", Promise.all(sent));
  await reader.sees(101);
  assert.deepEqual(reader.wrong, []);
  assert.deepEqual(reader.texts.filter((text) => text !== "theirs"), Array.from({ length: 100 }, (_, n) => `m${n} 日本語`));
  assert.ok(await mine.react(1, "👍"));
  assert.equal((await mine.history({ limit: 1 })).events[0].kind, "reaction");
  assert.ok(await alice.ping() < 5000);
  await assert.rejects(mine.edit(9999, "x"), { code: "not_found" });
});

test("bad credentials are as bad there", async () => {
  const bad = client(server.url, "x", { transport: "stream", token: "nonsense" });
  await assert.rejects(within("refused", bad.connect()), { code: "unauthenticated" });
  assert.equal(bad.state.phase, "unauthorized");
});

test("a blocked WebSocket is found out by itself, and gone back to when it is open again", async () => {
  const [id, theirs] = await room();
  const proxy = await Proxy.start(server);
  proxy.socketless = true;
  const refused = { ...IMPATIENT, encoding: "msgpack" };
  const alice = client(proxy.url, "alice", refused);
  const reader = new Reader(alice.room(id));
  await within("online all the same", alice.connect());
  assert.equal(alice.state.transport, "stream");
  await alice.room(id).subscribe();
  await theirs.send("one");
  await reader.sees(1);
  proxy.socketless = false;
  const back = event(alice, "state", (state) => state.transport === "websocket");
  proxy.cut();
  await back;
  await theirs.send("two");
  await reader.sees(2);
  assert.deepEqual(reader.wrong, []);
});

test("streams that are cut all the time lose, double and reorder nothing", async () => {
  const [id, theirs] = await room();
  const proxy = await Proxy.start(server);
  const alice = client(proxy.url, "alice", { ...IMPATIENT, transport: "stream" });
  await alice.connect();
  const mine = alice.room(id);
  await mine.join();
  const reader = new Reader(mine);
  await mine.subscribe();
  const texts = [];
  const sent = [];
  for (let round = 0; round < 6; round++) {
    for (let n = 0; n < 8; n++) {
      texts.push(`${round}.${n}`);
      sent.push(mine.send(texts.at(-1)));
    }
    await Promise.all([sent.at(-8 + (round % 6)), theirs.send(`other ${round}`)]);
    const back = event(alice, "online");
    proxy.cut();
    await back;
  }
  await within("all are committed", Promise.all(sent));
  await reader.sees(texts.length + 6);
  assert.deepEqual(reader.wrong, []);
  assert.deepEqual(reader.texts.filter((text) => !text.startsWith("other")), texts);
});

test("a drain, a kill and a stream that falls silent", async () => {
  const node = await Server.start();
  const proxy = await Proxy.start(node);
  const alice = client(proxy.url, "alice", { ...IMPATIENT, transport: "stream" });
  await alice.connect();
  await alice.api.makeRoom({ id: "lobby", kind: "public" });
  const lobby = alice.room("lobby");
  const reader = new Reader(lobby);
  await lobby.subscribe();
  await lobby.send("one");
  const notice = event(alice, "notice", ({ code }) => code === "draining");
  const { error } = await (async () => {
    const left = event(alice, "offline");
    await node.drain();
    await notice;
    return left;
  })();
  assert.equal(error.closeCode, 4200);
  await node.kill();
  const two = lobby.send("two");
  await node.startAgain();
  await two;
  const lost = event(alice, "offline");
  proxy.silent = true;
  alice.ping().catch(() => {});
  const three = lobby.send("three");
  await lost;
  proxy.silent = false;
  await within("three", three);
  await reader.sees(3);
  assert.deepEqual(reader.wrong, []);
  assert.deepEqual(reader.texts, ["one", "two", "three"]);
  await node.kill();
});

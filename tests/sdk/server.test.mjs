// What the client does with a server that is well: every call, both encodings, every way to say who one is.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Api, Client, MemoryStorage, newId, RoundtableError } from "../../target/sdk/under_test.mjs";
import { client, tidiesUp, event, reaches, Reader, Server, token, until, within } from "./support.mjs";

let server;
tidiesUp();
before(async () => {
  server = await Server.start({ "limits.replay": 50 });
});

/** A client that is online, and a room that it owns. */
async function owner(user, options) {
  const alice = client(server.url, user, options);
  await within("online", alice.connect());
  const id = `room-${newId()}`;
  await alice.api.makeRoom({ id, kind: "public" });
  return [alice, alice.room(id)];
}

const fails = (promise, code) => assert.rejects(within(`the failure ${code}`, promise), (error) => {
  assert.ok(error instanceof RoundtableError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
});

for (const encoding of ["json", "msgpack"]) {
  test(`everything one does in a room, as ${encoding}`, async () => {
    const [alice, room] = await owner("alice", { encoding });
    assert.equal(alice.user.id, "alice");
    const reader = new Reader(room);
    const placed = await room.subscribe();
    assert.deepEqual([placed.verdict, placed.head, placed.role], ["live", 0, "owner"]);
    const sending = room.send("first 日本語 👍", { data: { mood: [1, 2.5, null] } });
    assert.match(sending.id, /^[0-9a-f]{32}$/);
    const first = await sending;
    assert.deepEqual([first.room, first.id, first.seq, first.duplicate], [room.id, sending.id, 1, false]);
    assert.equal(await room.edit(1, "second"), 2);
    assert.equal(await room.edit(1, "second"), null);
    assert.equal(await room.react(1, "🎉"), 3);
    assert.equal(await room.react(1, "🎉", false), 4);
    const reply = await room.send("reply", { reply_to: 1, id: "chosen" });
    assert.equal(reply.id, "chosen");
    assert.equal(await room.delete(5), 6);
    await reader.sees(6);
    assert.deepEqual(reader.entries.map((entry) => entry.kind), ["message", "edit", "reaction", "reaction", "message", "delete"]);
    assert.deepEqual(reader.entries[0].data, { mood: [1, 2.5, null] });
    assert.equal(reader.entries[4].reply_to, 1);
    assert.deepEqual(reader.wrong, []);
    assert.equal(room.seq, 6);
    assert.equal(room.head, 6);
    assert.equal(room.status, "live");
    const { events, more } = await room.history({ after: 4, limit: 1 });
    assert.deepEqual([events.length, events[0].seq, events[0].deleted, more], [1, 5, true, true]);
    // The same id again is the same message.
    const again = await room.send("reply", { id: "chosen" });
    assert.deepEqual([again.seq, again.duplicate], [5, true]);
    await fails(room.edit(99, "x"), "not_found");
    await fails(room.send("  "), "bad_request");
    await fails(room.send("x".repeat(70_000)), "bad_request");
    assert.ok(await alice.ping() < 5000);
    assert.ok(alice.state.lagMs >= 0);
  });
}

test("hints: presence, typing, read marks; join and leave", async () => {
  const [, room] = await owner("alice");
  await room.subscribe();
  const bob = client(server.url, "bob");
  await bob.connect();
  const his = bob.room(room.id);
  const joined = event(room, "presence", (presence) => presence.joined?.includes("bob"));
  assert.equal((await his.subscribe()).role, null);
  await joined;
  await fails(his.send("not a member"), "forbidden");
  assert.equal(await his.join(), "member");
  assert.equal(his.role, "member");
  await his.send("now");
  const typing = event(room, "typing", ({ users }) => users.includes("bob"));
  his.typing(true);
  his.typing(true);
  await typing;
  const still = event(room, "typing", ({ users }) => !users.includes("bob"));
  his.typing(false);
  await still;
  const read = event(room, "read", ({ user, seq }) => user === "bob" && seq === 1);
  his.read(1);
  await read;
  await his.leave();
  assert.equal(his.role, null);
  await bob.close();
  assert.equal(his.status, "idle");
  await fails(his.send("too late"), "closed");
  await fails(bob.connect(), "closed");
});

test("a subscription starts where it is told, and a room that cannot be read says so", async () => {
  const [alice, room] = await owner("alice");
  for (let n = 1; n <= 8; n++) await room.send(`m${n}`);
  for (const [options, seqs, verdict] of [[{ after: 5 }, [6, 7, 8], "replay"], [{ last: 2 }, [7, 8], "replay"], [{ last: 0 }, [], "live"], [{}, [], "live"], [{ after: 0 }, [1, 2, 3, 4, 5, 6, 7, 8], "replay"], [{ last: 100 }, [1, 2, 3, 4, 5, 6, 7, 8], "replay"]]) {
    const bob = client(server.url, "bob");
    await bob.connect();
    const his = bob.room(room.id);
    const seen = [];
    his.on("entries", (entries) => void seen.push(...entries.map((entry) => entry.seq)));
    assert.equal((await his.subscribe(options)).verdict, verdict, JSON.stringify(options));
    await until(`live after ${JSON.stringify(options)}`, () => his.status === "live");
    assert.deepEqual(seen, seqs, JSON.stringify(options));
    assert.equal(his.seq, 8);
    await bob.close();
  }
  await fails(room.subscribe({ after: 1, last: 1 }), "bad_request");
  const gone = event(alice.room("no-such-room"), "unsubscribed");
  await fails(alice.room("no-such-room").subscribe(), "not_found");
  assert.equal((await gone).code, "not_found");
  // Of two subscribes the later one counts, and nothing of the earlier one is told.
  const seen = [];
  room.on("entries", (entries) => void seen.push(...entries.map((entry) => entry.seq)));
  const first = room.subscribe({ after: 0 }).catch((error) => error.code);
  await room.subscribe({ after: 6 });
  assert.equal(await first, "cancelled");
  await until("live", () => room.status === "live");
  assert.deepEqual(seen, [7, 8]);
  await room.unsubscribe();
  await room.send("unseen");
  assert.deepEqual(seen, [7, 8]);
  assert.equal(room.status, "idle");
});

test("kicked out, and a room that is deleted", async () => {
  const [alice, room] = await owner("alice");
  const bob = client(server.url, "bob");
  await bob.connect();
  const his = bob.room(room.id);
  await his.join();
  await his.subscribe();
  const banned = event(his, "unsubscribed");
  await alice.api.ban(room.id, "bob");
  assert.equal((await banned).code, "banned");
  assert.equal(his.status, "idle");
  await fails(his.subscribe(), "forbidden");
  await room.subscribe();
  const deleted = event(room, "unsubscribed");
  await alice.api.deleteRoom(room.id);
  await deleted;
  await fails(room.send("into the void"), "not_found");
});

test("away for longer than the server replays: a reset, or the history first", async () => {
  const [, room] = await owner("alice");
  for (let n = 1; n <= 120; n++) await room.send(`m${n}`);
  const bob = client(server.url, "bob");
  await bob.connect();
  const plain = bob.room(room.id);
  const reset = event(plain, "reset");
  assert.equal((await plain.subscribe({ after: 3 })).verdict, "reset");
  assert.deepEqual(await reset, { from: 3, head: 120 });
  assert.equal(plain.seq, 120);
  await bob.close();
  const carol = client(server.url, "carol");
  await carol.connect();
  const filled = carol.room(room.id);
  const reader = new Reader(filled, 3);
  await filled.subscribe({ after: 3, fill: true });
  await reader.sees(120);
  await room.send("live");
  await reader.sees(121);
  assert.deepEqual(reader.wrong, []);
});

test("a slow application: the cursor pauses at its bound and goes on where it was", async () => {
  const [, room] = await owner("alice");
  for (let n = 1; n <= 40; n++) await room.send(`m${n}`);
  const bob = client(server.url, "bob", { bounds: { queuedEntries: 10 } });
  await bob.connect();
  const his = bob.room(room.id);
  const statuses = new Set();
  his.on("change", () => statuses.add(his.status));
  const seen = [];
  const entries = his.entries();
  const reading = (async () => {
    for await (const entry of entries) {
      seen.push(entry.seq);
      if (entry.seq === 41) break;
    }
  })();
  await his.subscribe({ after: 0 });
  await until("paused or done", () => statuses.has("paused"));
  await room.send("one more");
  await within("all of it", reading);
  assert.deepEqual(seen, Array.from({ length: 41 }, (_, at) => at + 1));
});

test("a listener that throws harms nobody; one that is slow gets one batch at a time", async () => {
  const [, room] = await owner("alice");
  const seen = [];
  // The runner takes every uncaught error for the test's failure: here they are awaited, so it must not see them.
  const runners = process.listeners("uncaughtException");
  const thrown = [];
  const listen = (error) => void thrown.push(error.message);
  process.removeAllListeners("uncaughtException").on("uncaughtException", listen);
  try {
    room.on("entries", () => {
      throw new Error("on purpose");
    });
    let busy = false;
    room.on("entries", async (entries) => {
      assert.equal(busy, false);
      busy = true;
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(...entries.map((entry) => entry.seq));
      busy = false;
    });
    await room.subscribe();
    await room.send("one");
    await until("the error", () => thrown.length > 0);
    await Promise.all(["two", "three", "four"].map((text) => room.send(text)));
    await until("all seen", () => room.seq === 4);
  } finally {
    process.off("uncaughtException", listen);
    for (const runner of runners) process.on("uncaughtException", runner);
  }
  assert.deepEqual(seen, [1, 2, 3, 4]);
  assert.deepEqual([...new Set(thrown)], ["on purpose"]);
});

test("the order of sending is the order in the log, though none was waited for", async () => {
  const [alice, room] = await owner("alice");
  const reader = new Reader(room);
  await room.subscribe();
  const texts = Array.from({ length: 100 }, (_, n) => `m${n}`);
  assert.equal(alice.outbox.items().length, 0);
  const sent = texts.map((text) => room.send(text));
  assert.equal(alice.outbox.items(room.id).length, 100);
  await Promise.all(sent);
  await reader.sees(100);
  assert.deepEqual(reader.texts, texts);
  assert.deepEqual(alice.outbox.items(), []);
});

test("credentials: none, bad ones, a source of them, of somebody else", async () => {
  const none = new Client({ url: server.url });
  await fails(none.connect(), "unauthenticated");
  assert.equal(none.state.phase, "unauthorized");
  // Then the application logs in.
  await none.setToken(token("dave"));
  assert.equal(none.state.phase, "online");
  assert.equal(none.user.id, "dave");
  await none.setToken(token("dave", 7200));
  await fails(none.setToken(token("bob")), "forbidden");
  await none.close();

  const bad = client(server.url, "x", { token: "nonsense" });
  await fails(bad.connect(), "unauthenticated");
  assert.equal(bad.state.error.closeCode, 4300);

  const asked = [];
  const source = client(server.url, "x", {
    token: (why) => {
      asked.push(why);
      return asked.length === 1 ? token("carol", -10) : token("carol");
    },
  });
  await within("online", source.connect());
  assert.deepEqual(asked, ["connect", "rejected"]);

  let tries = 0;
  const hopeless = client(server.url, "x", { token: () => (tries++, "nonsense") });
  await fails(hopeless.connect(), "unauthenticated");
  assert.equal(tries, 3, "asked again twice, then left to the application");

  const wrong = client(server.url, "alice", { user: "bob" });
  await fails(wrong.connect(), "different_user");
  assert.equal(wrong.state.phase, "closed");
});

test("refused credentials cost no message: it waits for better ones, or stays for the next client", async () => {
  const [, { id: room }] = await owner("alice");
  const bob = client(server.url, "bob");
  await bob.connect();
  await bob.room(room).join();
  const storage = new MemoryStorage();
  const waits = client(server.url, "x", { token: "nonsense", user: "bob", storage });
  const first = waits.room(room).send("first");
  await fails(waits.connect(), "unauthenticated");
  const second = waits.room(room).send("second");
  assert.deepEqual(waits.outbox.items().map(({ state }) => state), ["waiting", "waiting"]);
  // Whose it is not gets none of it.
  await waits.setToken(token("alice")).catch(() => {});
  await reaches(waits, "closed");
  assert.equal(waits.state.error.code, "different_user");
  await fails(first, "different_user");
  await fails(second, "different_user");
  assert.equal((await storage.load("bob")).length, 2);
  await waits.close();

  const next = client(server.url, "bob", { user: "bob", storage });
  await next.connect();
  await until("both are sent", () => next.outbox.items().length === 0);
  const { events } = await next.room(room).history({ limit: 10 });
  assert.deepEqual(events.filter(({ kind }) => kind === "message").map(({ text }) => text), ["first", "second"]);
  // A token that ends in the middle: what was said meanwhile goes out with the next one.
  const brief = client(server.url, "bob", { token: token("bob", 2) });
  await brief.connect();
  await reaches(brief, "unauthorized");
  const third = brief.room(room).send("third");
  await brief.setToken(token("bob"));
  assert.ok((await within("it is sent", third)).seq > 0);
});

test("a token that runs out is replaced without a break; without a source the client says so", async () => {
  const asked = [];
  const carol = client(server.url, "x", {
    token: (why) => {
      asked.push(why);
      return token("carol", why === "connect" ? 3 : 3600);
    },
  });
  await carol.connect();
  const offline = [];
  carol.on("offline", (told) => offline.push(told));
  await until("a fresh token", () => asked.includes("expiring"));
  const dave = client(server.url, "x", { token: token("dave", 3) });
  await dave.connect();
  const { error } = await reaches(dave, "unauthorized");
  assert.equal(error.closeCode, 4301);
  assert.equal(carol.state.phase, "online");
  await carol.ping();
  assert.deepEqual(offline, []);
  await dave.setToken(token("dave"));
  assert.equal(dave.state.phase, "online");
});

test("the session cookie, with the CSRF token; and a login that is ended elsewhere", async () => {
  // A browser's jar: what fetch and the upgrade would carry there.
  let jar;
  const withCookie = async (url, init = {}) => {
    const answer = await fetch(url, { ...init, headers: { ...init.headers, ...(jar && { cookie: jar }) } });
    const set = answer.headers.getSetCookie().find((cookie) => cookie.startsWith("roundtable_session="));
    if (set) jar = set.split(";")[0];
    return answer;
  };
  const api = new Api({ url: server.url, fetch: withCookie });
  await fails(api.me(), "unauthenticated");
  const { user, token: session } = await api.register("erin", "correct horse battery");
  assert.equal(user.id, "erin");
  await api.rename("Erin");
  assert.equal((await api.me()).user.name, "Erin");
  await api.makeRoom({ id: "erins", kind: "private", topic: "Über alles" });
  assert.equal((await api.myRooms()).items.find(({ id }) => id === "erins").role, "owner");
  await fails(api.makeRoom({ id: "erins", kind: "public" }), "conflict");
  await fails(api.room("nowhere"), "not_found");
  // Another login in the same jar: the old CSRF token is no good any more, and that is nobody's trouble.
  await new Api({ url: server.url, fetch: withCookie }).login("erin", "correct horse battery");
  await api.changeRoom("erins", { topic: "again" });
  const erin = client(server.url, "x", { token: session, keepFailed: true });
  await erin.connect();
  const room = erin.room("erins");
  const unsent = room.send("kept");
  await unsent;
  await api.call("DELETE", "me/sessions");
  const { error } = await reaches(erin, "closed");
  assert.deepEqual([error.code, error.closeCode], ["revoked", 4003]);
  await fails(room.send("too late"), "revoked");
  await api.logout();
  await fails(api.me(), "unauthenticated");
});

test("the calls of the API that a client needs", async () => {
  const [alice, room] = await owner("alice");
  const { api } = alice;
  const bob = client(server.url, "bob");
  await bob.connect();
  const { seq } = await room.send("find me by zebra");
  await room.send("reply", { reply_to: seq });
  assert.equal((await api.me()).user.id, "alice");
  assert.equal((await api.room(room.id)).role, "owner");
  assert.ok((await api.rooms({ limit: 1 })).items.length === 1);
  const invitation = await api.invite(room.id, { uses: 1 });
  await bob.api.acceptInvitation(invitation.token);
  assert.equal((await api.call("GET", `rooms/${room.id}/invitations`)).items[0].uses_left, 0);
  assert.deepEqual((await api.members(room.id)).items.map(({ user }) => user).sort(), ["alice", "bob"]);
  assert.equal((await api.setRole(room.id, "bob", "moderator")).role, "moderator");
  await bob.api.pin(room.id, seq);
  assert.equal((await api.pins(room.id)).items[0].message.seq, seq);
  await bob.api.unpin(room.id, seq);
  assert.equal((await api.thread(room.id, seq)).items.length, 2);
  assert.equal((await api.messages(room.id, { around: seq, limit: 10 })).items.length, 2);
  assert.equal((await api.message(room.id, seq)).link, `/r/${room.id}/${seq}`);
  await bob.api.markRead(room.id, seq);
  assert.equal((await bob.api.myRooms()).items.find(({ id }) => id === room.id).unread, 1);
  const report = await bob.api.report(room.id, seq, "a zebra & more");
  assert.equal((await api.call("GET", `rooms/${room.id}/reports`, { query: { state: "open" } })).items[0].report, report.report);
  await api.call("PUT", `rooms/${room.id}/reports/${report.report}`, { body: { state: "closed", action: "none" } });
  await until("found", async () => (await api.search("zebra", { room: room.id })).items.length === 1);
  assert.equal((await api.direct("bob")).kind, "direct");
  const made = await api.call("POST", "me/tokens", { body: { name: "bot", scopes: ["read"] } });
  assert.equal(await api.call("DELETE", `me/tokens/${made.id}`), undefined);
  await api.kick(room.id, "bob");
  await api.ban(room.id, "bob");
  assert.equal((await api.call("GET", `rooms/${room.id}/bans`)).items[0].user, "bob");
  await api.unban(room.id, "bob");
  const file = await api.upload(room.id, "with-file", new Blob(["\x89PNG\r\n\x1a\n"], { type: "" }), { name: "notes ü.bin", id: "u1" }).catch((error) => error);
  if (file instanceof RoundtableError) assert.equal(file.code, "bad_request", file.message);
  const text = await api.upload(room.id, "with-text", new Blob(["plain words"]), { name: "notes ü.txt" });
  await room.send("see the file", { id: "with-text", data: { attachments: [text.id] } });
  const [found] = (await bob.api.attachments(room.id, [text.id])).items;
  assert.equal(found.name, "notes ü.txt");
  assert.equal(await (await fetch(api.address(found.url))).text(), "plain words");
  const stop = new AbortController();
  stop.abort();
  await fails(api.call("GET", "rooms", { signal: stop.signal }), "cancelled");
  await fails(new Api({ url: "http://127.0.0.1:1" }).auth(), "network");
});

test("bounds: the outbox, requests, and what may not be at all", async () => {
  const offline = client("http://127.0.0.1:1", "alice", { bounds: { outboxMessages: 3, outboxBytes: 5000, requests: 2 } });
  const room = offline.room("lobby");
  const waiting = [room.send("a"), room.send("b"), room.send("c")];
  await fails(room.send("d"), "outbox_full");
  assert.equal(offline.outbox.discard("lobby", waiting[0].id), true);
  await fails(waiting[0], "cancelled");
  await fails(room.send("x".repeat(5000)), "outbox_full");
  await fails(room.send("twice", { id: waiting[1].id }), "conflict");
  const acts = [room.react(1, "👍"), room.edit(1, "x")];
  await fails(room.delete(1), "queue_full");
  const stop = new AbortController();
  void offline.connect().catch(() => {});
  await offline.close();
  for (const one of [...waiting.slice(1), ...acts]) await fails(one, "closed");
  assert.throws(() => new Client({ url: "ftp://example.org" }), { code: "bad_request" });
  assert.throws(() => new Client(), { code: "bad_request" });
  stop.abort();
});

test("a refused message stays where it is wanted, is tried again, and taken out", async () => {
  const [alice, room] = await owner("alice");
  const bob = client(server.url, "bob", { keepFailed: true });
  await bob.connect();
  const his = bob.room(room.id);
  const changes = [];
  bob.outbox.on("change", ({ change }) => changes.push(change));
  const refused = his.send("not a member yet");
  await fails(refused, "forbidden");
  assert.deepEqual(bob.outbox.items().map(({ id, state, error }) => [id, state, error.code]), [[refused.id, "failed", "forbidden"]]);
  await his.join();
  const { seq } = await bob.outbox.retry(room.id, refused.id);
  assert.equal(seq, 1);
  assert.deepEqual(changes.filter((change) => change !== "updated"), ["added", "failed", "sent"]);
  await fails(bob.outbox.retry(room.id, refused.id), "not_found");
  assert.equal(bob.outbox.discard(room.id, refused.id), false);
  await alice.api.changeRoom(room.id, { archived: true });
  const archived = his.send("archived");
  await fails(archived, "conflict");
  assert.equal(bob.outbox.discard(room.id, archived.id), true);
  assert.deepEqual(bob.outbox.items(), []);
});

test("what waits outlives the page, in its order, and only for the same person", async () => {
  const [, room] = await owner("carol");
  const storage = new MemoryStorage();
  const reader = new Reader(room);
  await room.subscribe();
  const before = client("http://127.0.0.1:1", "carol", { storage, user: "carol" });
  const lost = ["one", "two", "three"].map((text) => before.room(room.id).send(text).catch((error) => error.code));
  assert.equal(before.outbox.durable, true);
  await before.close();
  assert.deepEqual(await Promise.all(lost), ["closed", "closed", "closed"]);
  const other = client(server.url, "dave", { storage });
  await other.connect();
  assert.deepEqual(other.outbox.items(), []);
  const after = client(server.url, "carol", { storage });
  // What is said before the connection is younger than what was left.
  const four = after.room(room.id).send("four");
  await after.connect();
  await four;
  await reader.sees(4);
  assert.deepEqual(reader.texts, ["one", "two", "three", "four"]);
  await until("nothing is left", async () => (await storage.load("carol")).length === 0);
});

test("a storage that fails is said to have failed, and messages go all the same", async () => {
  const [, room] = await owner("dave");
  const broken = { load: async () => [], put: () => Promise.reject(new Error("the disk is full")), remove: async () => {} };
  const dave = client(server.url, "dave", { storage: broken });
  const told = event(dave.outbox, "volatile");
  await dave.connect();
  await dave.room(room.id).send("still");
  assert.match(String(await told), /disk is full/);
  assert.equal(dave.outbox.durable, false);
});

test("messages over the rate wait for their turn, and none overtakes them", async () => {
  const strict = await Server.start({ "limits.messages_per_minute": 600, "limits.messages_burst": 5 });
  const alice = client(strict.url, "alice");
  await alice.connect();
  await alice.api.makeRoom({ id: "lobby", kind: "public" });
  const room = alice.room("lobby");
  const reader = new Reader(room);
  await room.subscribe();
  const limited = event(alice.outbox, "change", ({ item }) => item.error?.code === "rate_limited" && item.state === "waiting");
  const texts = Array.from({ length: 20 }, (_, n) => `m${n}`);
  await within("all", Promise.all(texts.map((text) => room.send(text))));
  await limited;
  await reader.sees(20);
  assert.deepEqual(reader.texts, texts);
  await strict.kill();
});

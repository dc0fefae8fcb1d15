// What the client's tests speak in: a node of the built program, a cluster of them, a proxy that can be cut, tokens, people.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after } from "node:test";

import { Client } from "../../target/sdk/under_test.mjs";

export const PROGRAM = process.env.ROUNDTABLE_PROGRAM ?? path.resolve("target/debug/roundtable");
const SECRET = "a-secret-that-only-these-tests-know-0123";
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000);

export function token(user, seconds = 3600, more = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp: Math.floor(realDate() / 1000) + seconds, ...more })}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}
const realDate = Date.now; // tests set the clock

export async function within(what, promise, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks again and again, with a deadline, at what no event tells of. */
export function until(what, look, ms = PATIENCE_MS) {
  let over = false;
  const looking = (async () => {
    while (!over) {
      const found = await look();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  return within(what, looking, ms).finally(() => (over = true));
}

/** The first event of that name that fits. */
export function event(emitter, name, fits = () => true) {
  return within(`event ${name}`, new Promise((resolve) => {
    const off = emitter.on(name, (told) => {
      if (!fits(told)) return;
      off();
      resolve(told);
    });
  }));
}

/** The state, now or later. */
export function reaches(client, phase) {
  return client.state.phase === phase ? client.state : event(client, "state", (state) => state.phase === phase);
}

export async function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// ——— Processes

const children = new Set();
const folders = new Set();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

export function folder() {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), "roundtable-sdk-"));
  folders.add(made);
  return made;
}

export function run(program, args, options = {}) {
  const child = spawn(program, args, options);
  children.add(child);
  child.gone = new Promise((resolve) => child.once("exit", (...how) => {
    children.delete(child);
    resolve(how);
  }));
  return child;
}

/** A node of the built program. Its ports stay the same when it is started again. */
export class Server {
  static async start(settings = {}) {
    const server = new Server();
    server.dir = folder();
    server.settings = settings;
    [server.port, server.admin] = [await freePort(), await freePort()];
    await server.startAgain();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async startAgain() {
    const log = fs.openSync(path.join(this.dir, "log"), "a");
    const env = {
      PATH: process.env.PATH,
      ROUNDTABLE__SERVER__BIND: `127.0.0.1:${this.port}`,
      ROUNDTABLE__ADMIN__BIND: `127.0.0.1:${this.admin}`,
      ROUNDTABLE__AUTH__JWT__SECRET: SECRET,
      ROUNDTABLE__LIMITS__MESSAGES_PER_MINUTE: "0",
      ROUNDTABLE__LIMITS__HTTP_PER_MINUTE: "0",
    };
    for (const [key, value] of Object.entries(this.settings)) env[`ROUNDTABLE__${key.replaceAll(".", "__").toUpperCase()}`] = String(value);
    this.child = run(PROGRAM, [], { cwd: this.dir, stdio: ["ignore", log, log], env });
    fs.closeSync(log);
    await until("the node is ready", async () => {
      assert.equal(this.child.exitCode, null, `the node ended: ${fs.readFileSync(path.join(this.dir, "log"), "utf8").slice(-2000)}`);
      return fetch(`http://127.0.0.1:${this.admin}/readyz`).then((answer) => answer.ok, () => false);
    });
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.child.gone;
  }
  async stop() {
    this.child.kill("SIGTERM");
    await within("the node ends", this.child.gone);
  }
  async drain() {
    assert.equal((await fetch(`http://127.0.0.1:${this.admin}/drain`, { method: "POST" })).status, 202);
  }
}

/** PostgreSQL, Redis and so many nodes. */
export class Cluster {
  static async start(count, settings = {}) {
    const cluster = new Cluster();
    const dir = folder();
    // PostgreSQL refuses to run as root.
    const as = process.getuid() === 0 ? ids() : {};
    const bin = postgresBin();
    const data = path.join(dir, "data");
    if (as.uid !== undefined) fs.chownSync(dir, as.uid, as.gid);
    const made = spawnSync(path.join(bin, "initdb"), ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=roundtable", "--pgdata", data], { ...as, cwd: dir });
    assert.equal(made.status, 0, String(made.stderr));
    const [postgres, redis] = [await freePort(), await freePort()];
    const log = fs.openSync(path.join(dir, "log"), "a");
    cluster.postgres = run(path.join(bin, "postgres"), ["-D", data, "-p", postgres, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=on"], { ...as, cwd: dir, stdio: ["ignore", log, log] });
    cluster.redis = run("redis-server", ["--port", redis, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir], { cwd: dir, stdio: "ignore" });
    // A node that finds no PostgreSQL yet waits for it.
    const all = {
      "store.url": `postgres://roundtable@127.0.0.1:${postgres}/postgres`, "cluster.redis_url": `redis://127.0.0.1:${redis}`, ...settings,
    };
    cluster.nodes = [await Server.start(all)];
    cluster.nodes.push(...(await Promise.all(Array.from({ length: count - 1 }, () => Server.start(all)))));
    return cluster;
  }
  get urls() {
    return this.nodes.map((node) => node.url);
  }
  async stop() {
    for (const node of this.nodes) await node.kill();
    for (const child of [this.postgres, this.redis]) {
      child.kill("SIGKILL");
      await child.gone;
    }
  }
}

function ids() {
  const people = fs.readFileSync("/etc/passwd", "utf8").split("\n").map((entry) => entry.split(":"));
  const found = people.find(([name]) => name === "postgres") ?? people.find(([name]) => name === "nobody");
  return { uid: Number(found[2]), gid: Number(found[3]) };
}

function postgresBin() {
  const at = (process.env.PATH ?? "").split(":").find((dir) => fs.existsSync(path.join(dir, "initdb")));
  if (at) return at;
  const root = "/usr/lib/postgresql";
  const versions = fs.existsSync(root) ? fs.readdirSync(root).sort((a, b) => b - a) : [];
  assert.ok(versions.length, "PostgreSQL's programs are missing");
  return path.join(root, versions[0], "bin");
}

/** Between clients and a node: can cut, fall silent, refuse, and keep WebSockets out. */
export class Proxy {
  static async start(server) {
    const proxy = new Proxy();
    proxy.target = server.port;
    proxy.pairs = new Set();
    proxy.silent = false; // bytes go nowhere, and nobody is told
    proxy.mute = false; // what the node says is lost; what it is told arrives
    proxy.refusing = false; // new connections are cut at once
    proxy.socketless = false; // a WebSocket's upgrade is answered with 403, as some proxies do
    proxy.accepted = 0;
    proxy.listener = net.createServer((inner) => proxy.pair(inner)).listen(0, "127.0.0.1");
    await new Promise((resolve) => proxy.listener.once("listening", resolve));
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}`;
    after(() => proxy.close());
    return proxy;
  }
  pair(inner) {
    this.accepted++;
    if (this.refusing) return inner.destroy();
    const outer = net.connect(this.target, "127.0.0.1");
    const pair = { inner, outer };
    this.pairs.add(pair);
    const end = () => {
      inner.destroy();
      outer.destroy();
      this.pairs.delete(pair);
    };
    let first = true;
    inner.on("data", (bytes) => {
      if (first && this.socketless && /^upgrade: *websocket/im.test(bytes.toString("latin1"))) {
        inner.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
      }
      first = false;
      if (!this.silent) outer.write(bytes);
    });
    outer.on("data", (bytes) => {
      if (!this.silent && !this.mute) inner.write(bytes);
    });
    for (const socket of [inner, outer]) socket.on("error", end).on("close", end);
  }
  /** Cuts every connection. */
  cut() {
    for (const { inner, outer } of this.pairs) {
      inner.destroy();
      outer.destroy();
    }
    this.pairs.clear();
  }
  close() {
    this.listener.close();
    this.cut();
  }
}

// ——— People

const clients = new Set();
export function client(url, user, options = {}) {
  const made = new Client({ url, token: token(user), ...options });
  clients.add(made);
  return made;
}
/** To be called by each file: what its tests leave running would keep the process alive. */
export function tidiesUp() {
  after(async () => {
    await Promise.all([...clients].map((one) => one.close()));
    for (const child of children) child.kill("SIGKILL");
  });
}

/** Holds what a room told against what was promised: each entry once, in order, no gap. */
export class Reader {
  constructor(room, from = 0) {
    this.entries = [];
    this.wrong = [];
    this.last = from;
    this.waiting = new Set();
    room.on("reset", (reset) => {
      this.wrong.push(`reset ${JSON.stringify(reset)}`);
    });
    room.on("entries", (entries) => {
      for (const entry of entries) {
        if (entry.seq !== this.last + 1) this.wrong.push(`${entry.seq} behind ${this.last}`);
        this.last = entry.seq;
        this.entries.push(entry);
      }
      for (const wake of this.waiting) wake();
    });
  }
  get texts() {
    return this.entries.filter((entry) => entry.kind === "message").map((entry) => entry.text);
  }
  sees(seq) {
    return within(`entry ${seq} (${this.last} so far)`, new Promise((resolve) => {
      const look = () => {
        if (this.last < seq) return;
        this.waiting.delete(look);
        resolve();
      };
      this.waiting.add(look);
      look();
    }));
  }
}

// What the pages of these tests stand on: PostgreSQL, Redis, nodes of the built program, and a balancer before them, all on free
// ports of 127.0.0.1 and in one temporary directory. Nothing outlives this process: it ends what it started, and a guardian does
// where it is killed.
import { execFileSync, spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const dir = mkdtempSync(join(tmpdir(), "roundtable-browser-"));
const children = new Set();

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Waits for something to be so; throws with what it was instead. */
export async function until(what, look, { within = 30_000, every = 50 } = {}) {
  const end = Date.now() + within;
  let last;
  for (;;) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`in vain: ${what} (last: ${last instanceof Error ? last.message : JSON.stringify(last)})`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

function start(name, program, args, options = {}) {
  const log = openSync(join(dir, `${name}.log`), "a");
  const child = spawn(program, args, { cwd: dir, stdio: ["ignore", log, log], ...options });
  child.ended = new Promise((resolve) => {
    child.on("error", resolve);
    child.on("exit", (code, signal) => resolve({ code, signal }));
  });
  children.add(child);
  child.ended.then(() => children.delete(child));
  // Where this process is killed, nobody else would end the child.
  const guard = spawn("sh", ["-c", `cat > /dev/null; kill -9 ${child.pid} 2> /dev/null`], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  guard.unref();
  guard.stdin.on("error", () => {});
  child.ended.then(() => guard.kill("SIGKILL"));
  return child;
}

export function logOf(name) {
  return readFileSync(join(dir, `${name}.log`), "utf8");
}

export async function stopAll() {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all([...children].map((child) => child.ended));
  rmSync(dir, { recursive: true, force: true });
}

// ---- PostgreSQL and Redis ---------------------------------------------------------------------------------------------------

function postgresPrograms() {
  const given = process.env.ROUNDTABLE_TEST_POSTGRES_BIN;
  const debian = "/usr/lib/postgresql";
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const places = [given, ...(process.env.PATH ?? "").split(":"), ...versions.map((one) => join(debian, one, "bin"))];
  const found = places.find((place) => place && existsSync(join(place, "initdb")) && existsSync(join(place, "postgres")));
  if (!found) throw new Error("PostgreSQL's programs (initdb, postgres) are missing");
  return found;
}

let servers = 0;

async function postgres() {
  const bin = postgresPrograms();
  const name = `postgres${++servers}`;
  const home = join(dir, name);
  mkdirSync(home);
  const as = {};
  if (process.getuid() === 0) {
    // It refuses to run as root.
    const id = (flag) => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
    Object.assign(as, { uid: id("-u"), gid: id("-g") });
    chownSync(home, as.uid, as.gid);
    execFileSync("chmod", ["755", dir]);
  }
  const data = join(home, "data");
  execFileSync(join(bin, "initdb"), ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", "roundtable", "--pgdata", data], {
    cwd: home, stdio: "ignore", ...as,
  });
  const port = await freePort();
  const args = ["-D", data, "-p", String(port), "-c", "listen_addresses=127.0.0.1", "-c", `unix_socket_directories=${home}`, "-c", "fsync=off"];
  start(name, join(bin, "postgres"), args, { cwd: home, ...as });
  await until("PostgreSQL answers", () => connects(port));
  return `postgres://roundtable@127.0.0.1:${port}/postgres`;
}

async function redis() {
  const port = await freePort();
  start(`redis${port}`, "redis-server", ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
  await until("Redis answers", () => connects(port));
  return `redis://127.0.0.1:${port}`;
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => (socket.destroy(), resolve(true)));
    socket.on("error", () => resolve(false));
  });
}

// ---- nodes ------------------------------------------------------------------------------------------------------------------

/** Limits that a test would otherwise run into: all pages come from one address. */
const WIDE = {
  "limits.http_per_minute": 0,
  "limits.http_per_user_minute": 0,
  "limits.logins_per_minute": 0,
  "limits.messages_per_minute": 0,
  "log.format": "json",
};

let nodes = 0;

/** A node of the program, ready. Without a store it has SQLite of its own. */
export async function node(program, settings = {}) {
  const name = `node${++nodes}`;
  const [port, adminPort] = [await freePort(), await freePort()];
  const home = join(dir, name);
  mkdirSync(home);
  const env = { PATH: process.env.PATH };
  const all = { ...WIDE, ...settings, "server.bind": `127.0.0.1:${port}`, "admin.bind": `127.0.0.1:${adminPort}` };
  for (const [key, value] of Object.entries(all)) env[`ROUNDTABLE__${key.replaceAll(".", "__").toUpperCase()}`] = String(value);
  const admin = `http://127.0.0.1:${adminPort}`;
  const one = {
    name, port, admin, url: `http://127.0.0.1:${port}`, env,
    launch() {
      one.process = start(name, program, [], { cwd: home, env });
    },
    async ready() {
      await until(`${name} is ready`, async () => {
        if (one.process.exitCode !== null) throw new Error(`it ended:\n${logOf(name).slice(-2_000)}`);
        return (await fetch(`${admin}/readyz`)).status === 200;
      });
    },
    async kill() {
      one.process.kill("SIGKILL");
      await one.process.ended;
    },
    async terminate() {
      one.process.kill("SIGTERM");
      return one.process.ended;
    },
    cluster: async (query = "") => (await fetch(`${admin}/cluster${query}`)).json(),
  };
  one.launch();
  await one.ready();
  return one;
}

/** Nodes that know each other, with a share of the shards each. */
export async function cluster(program, count, more = {}) {
  const store = await postgres();
  const settings = {
    ...more,
    "store.url": store,
    "cluster.redis_url": await redis(),
    "attachments.url": `file://${mkdtempSync(join(dir, "attachments-"))}`,
  };
  const all = [];
  for (let at = 0; at < count; at++) all.push(await node(program, settings));
  await settled(all);
  return all;
}

async function settled(all) {
  await until("every node sees every other, and has its share", async () => {
    for (const one of all) {
      const ready = (await one.cluster()).nodes.filter((each) => each.state === "ready");
      if (ready.length !== all.length || ready.some((each) => each.shards < 1024 / all.length / 2)) return false;
      if (ready.reduce((sum, each) => sum + each.shards, 0) !== 1024) return false;
    }
    return true;
  });
}

// ---- a balancer -------------------------------------------------------------------------------------------------------------

/** Passes connections on to the first of its nodes that takes them: an address that stays where nodes come and go. Without
 * sockets it answers the upgrade to a WebSocket with 403, as some proxies do. */
export async function balancer(targets, { sockets = true } = {}) {
  const port = await freePort();
  const open = new Set();
  const one = { port, url: `http://127.0.0.1:${port}`, targets, away: false, refused: 0 };
  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    open.add(client);
    client.on("close", () => open.delete(client));
    client.on("error", () => client.destroy());
    if (one.away) return client.destroy();
    const attempt = (at) => {
      const target = one.targets[at];
      if (!target) return client.destroy();
      const upstream = net.connect({ port: target.port, host: "127.0.0.1", allowHalfOpen: true });
      upstream.once("connect", () => {
        upstream.removeAllListeners("error");
        upstream.on("error", () => client.destroy());
        upstream.on("close", () => client.destroy());
        client.on("close", () => upstream.destroy());
        client.pipe(upstream).pipe(client);
      });
      upstream.once("error", () => attempt(at + 1));
    };
    if (sockets) return attempt(0);
    // A browser upgrades no connection that it has used before.
    client.once("data", (bytes) => {
      if (/^upgrade: *websocket/im.test(bytes.toString("latin1"))) {
        one.refused++;
        return client.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
      }
      client.pause();
      client.unshift(bytes);
      attempt(0);
    });
  });
  server.listen(port, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  server.unref();
  /** Nobody gets through, and those who are through are cut off. */
  one.cut = () => {
    one.away = true;
    for (const client of open) client.destroy();
  };
  one.mend = () => {
    one.away = false;
  };
  one.close = () => {
    one.cut();
    server.close();
  };
  return one;
}

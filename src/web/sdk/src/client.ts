// The client: keeps one connection, comes back as the close codes say, and brings everything with it.

import { Api } from "./api.js";
import { backoff, now, watch, type Pace } from "./clock.js";
import { Emitter } from "./emitter.js";
import { RoundtableError } from "./errors.js";
import type { ClientFrame, Limits, Notice, ServerFrame, User, Welcome } from "./frames.js";
import { Link, type Answer } from "./link.js";
import { Outbox } from "./outbox.js";
import { Room, type Base } from "./room.js";
import { IndexedDbStorage, type OutboxStorage } from "./storage.js";
import { openStream } from "./stream.js";
import { BROKEN, type Ending } from "./transport.js";
import { openWebSocket, type Encoding, type WebSocketClass } from "./websocket.js";

export type TokenReason =
  | "connect" // the first connection
  | "expiring" // the server says that the token ends within a minute
  | "expired" // it ended
  | "rejected"; // the server refused it

/** Gives a token; undefined: go without one (the cookie counts, where there is one). */
export type TokenSource = (why: TokenReason) => string | undefined | Promise<string | undefined>;

export interface ClientOptions {
  /** Where the server is, `https://chat.example.org`; several: one after the other. The page's own origin, in a browser. */
  url?: string | string[];
  /** A session token, access token or JWT, or what gives one whenever a fresh one is needed. Without: the session cookie. */
  token?: string | TokenSource;
  /** Whose client this is, where it is known: then unsent messages are kept from the first moment on, and nobody else's credentials are used. */
  user?: string;
  encoding?: Encoding;
  /** `auto`: WebSocket, and events over HTTP where that is blocked. */
  transport?: "auto" | "websocket" | "stream";
  /** Name and version of the application, for the server's log. */
  client?: string;
  /** Where unsent messages are kept. IndexedDB in a browser, else nowhere but in memory; null: nowhere. */
  storage?: OutboxStorage | null;
  /** Keep messages that the server refused in the outbox, for `retry` and `discard`. Otherwise `send` rejects and that is all. */
  keepFailed?: boolean;
  bounds?: Partial<Bounds>;
  patience?: Partial<Patience>;
  WebSocket?: WebSocketClass;
  fetch?: typeof fetch;
}

/** What may wait at most. */
export interface Bounds {
  /** Unsent messages, and their bytes (three for each UTF-16 unit); `outbox_full` beyond. */
  outboxMessages: number;
  outboxBytes: number;
  /** Entries of a room that listeners have not taken; the cursor pauses beyond. */
  queuedEntries: number;
  /** Requests, of all rooms and of each; `queue_full` beyond. */
  requests: number;
}
const BOUNDS: Bounds = { outboxMessages: 1000, outboxBytes: 4 << 20, queuedEntries: 10_000, requests: 1000 };

/** How long to wait, in milliseconds, before a connection counts as broken. */
export interface Patience {
  connectMs: number;
  pongMs: number;
  answerMs: number;
  /** For a read (`history`) as a whole, reconnects included; then it fails with `timeout`. */
  readMs: number;
}
const PATIENCE: Patience = { connectMs: 10_000, pongMs: 10_000, answerMs: 30_000, readMs: 60_000 };

export type Phase =
  | "idle" // not started
  | "connecting"
  | "online"
  | "waiting" // for the next attempt, see `retryInMs`
  | "offline" // the device has no network; tries all the same
  | "unauthorized" // needs a new token or login: `setToken`, or log in and `connect`
  | "closed"; // by `close`, or the server does not want it back: see `error`

export interface ConnectionState {
  readonly phase: Phase;
  /** What carries the present connection. */
  readonly transport?: "websocket" | "stream";
  readonly node?: string;
  /** The node said that it is about to stop; the client moves by itself. */
  readonly draining: boolean;
  /** Round trip to the server, from the last heartbeat; or how long the present one waits already, where that is more. */
  readonly lagMs?: number;
  /** The lag is over 1.5 s. */
  readonly slow: boolean;
  /** Rooms that are not up to date yet. */
  readonly catchingUp: number;
  /** Attempts that failed since the last connection. */
  readonly attempt: number;
  /** How long the wait before the next attempt was when it began. */
  readonly retryInMs?: number;
  /** Why the last connection or attempt ended. */
  readonly error?: RoundtableError;
}

export interface ClientEvents {
  state: ConnectionState;
  /** A connection is there. `resumed`: not the first one. */
  online: { user: User; node: string; resumed: boolean };
  offline: { error: RoundtableError };
  notice: Notice;
  /** Time jumped: the device slept, the process stood still, or the clock was set. */
  woke: void;
}

const SLOW_MS = 1500;
const STEADY_MS = 5000; // a connection that lived so long lets the next wait begin anew
const PING_MS = 15_000;
const STREAM_AFTER = 2; // failed attempts by WebSocket before the other way is tried; twice that where one has worked before
const WEBSOCKET_AGAIN_MS = 60_000; // doubling, up to 16 times that
const START_PACE: Pace = { jitter_ms: 1000, backoff_max_ms: 30_000 };
const REPEAT_PACE: Pace = { jitter_ms: 250, backoff_max_ms: 10_000 };

interface Waiter {
  /** Waits on where credentials are refused: it is not for itself that they have to be good. */
  patient?: boolean;
  resolve(link: Link): void;
  reject(error: RoundtableError): void;
}

let usualWebSocket = globalThis.WebSocket as WebSocketClass | undefined;
/** @internal For a platform that has none of its own. */
export function provideWebSocket(Class: WebSocketClass): void {
  usualWebSocket ??= Class;
}

export class Client extends Emitter<ClientEvents> {
  /** The HTTP API with the same credentials. */
  readonly api: Api;
  readonly outbox: Outbox;
  /** Who one is; known with the first connection. */
  user: User | undefined;
  limits: Limits | undefined;

  #current: ConnectionState = { phase: "idle", draining: false, slow: false, catchingUp: 0, attempt: 0 };
  readonly #rooms = new Map<string, Room>();
  readonly #urls: string[];
  readonly #bounds: Bounds;
  readonly #patience: Patience;
  readonly #fetcher: typeof fetch;
  #at = 0; // which of the urls
  #token: string | undefined;
  #link: Link | undefined;
  #serving: Link | undefined; // the link, once it takes requests
  #generation = 0; // raised whenever what is under way must come to nothing
  #pace = START_PACE;
  #onlineSince: number | undefined;
  #moveAfterMs: number | undefined; // what a drain's notice said
  #attempt = 0;
  #blocked = 0; // attempts by WebSocket in a row that came to nothing
  #socketWorks = false;
  #webSocketAgainMs = WEBSOCKET_AGAIN_MS;
  #rejections = 0;
  #resumed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #probe: ReturnType<typeof setTimeout> | undefined;
  #stopWatching: (() => void) | undefined;
  readonly #waiters = new Set<Waiter>();
  readonly #base: Base;
  readonly #options: ClientOptions;

  constructor(options: ClientOptions = {}) {
    super();
    this.#options = options;
    const page = globalThis.location?.origin;
    this.#urls = [options.url ?? page ?? []].flat();
    if (!this.#urls.length) throw new RoundtableError("bad_request", "url: needed outside of a browser");
    for (const url of this.#urls) if (!/^https?:/.test(url)) throw new RoundtableError("bad_request", `url: ${url} is neither http: nor https:`);
    this.#bounds = { ...BOUNDS, ...options.bounds };
    this.#patience = { ...PATIENCE, ...options.patience };
    this.#fetcher = options.fetch ?? globalThis.fetch.bind(globalThis);
    if (typeof options.token === "string") this.#token = options.token;
    this.api = new Api({ url: () => this.#url, token: () => this.#token, fetch: this.#fetcher });
    const kept = options.storage === undefined && "indexedDB" in globalThis ? new IndexedDbStorage() : (options.storage ?? undefined);
    this.outbox = new Outbox(
      kept, { messages: this.#bounds.outboxMessages, bytes: this.#bounds.outboxBytes }, options.keepFailed ?? false,
      (frame, signal, told, first) => this.#ask(frame, signal, told, first), () => this.#current.phase === "closed",
    );
    if (options.user !== undefined) void this.outbox.open(options.user);
    this.#base = {
      outbox: this.outbox,
      queuedEntries: this.#bounds.queuedEntries,
      me: () => this.user?.id,
      ask: (frame, signal) => this.#ask(frame, signal),
      askOnce: (frame, first) => this.#link?.ask(frame, first) ?? Promise.reject(new RoundtableError("network", "not connected")),
      read: (frame) => this.#read(frame),
      say: (frame) => this.#link?.say(frame),
      connected: () => this.#current.phase === "online",
      changed: () => this.#tell({}),
    };
  }

  get state(): ConnectionState {
    return this.#current;
  }
  get #url(): string {
    return this.#urls[this.#at % this.#urls.length]!;
  }

  /** The room of that id, the same object each time. Nothing is asked of the server by this. */
  room(id: string): Room {
    let room = this.#rooms.get(id);
    if (!room) this.#rooms.set(id, (room = new Room(id, this.#base, this.#bounds.requests)));
    return room;
  }

  /** Connects, and from then on stays connected. Resolves with the first welcome; rejects where there can be none without the application's help. */
  connect(): Promise<User> {
    // What was refused is not tried again, where there is somebody to ask.
    if (this.#current.phase === "unauthorized" && typeof this.#options.token === "function") this.#token = undefined;
    return this.#begin();
  }

  #begin(): Promise<User> {
    const { phase, error } = this.#current;
    if (this.#serving) return Promise.resolve(this.user!);
    if (error?.code === "closed") return Promise.reject(error);
    const online = new Promise<Link>((resolve, reject) => this.#waiters.add({ resolve, reject })).then(() => this.user!);
    if (phase === "idle" || phase === "unauthorized" || phase === "closed") {
      this.#rejections = this.#attempt = 0;
      if (!this.#stopWatching) this.#listen();
      void this.#start("connect");
    } else this.#hurry();
    return online;
  }

  /** Ends the connection. Unsent messages stay in the storage; whoever waits for anything is told `closed`. The client can't be used again. */
  async close(): Promise<void> {
    this.#finish(new RoundtableError("closed", "the client was closed"));
    await this.outbox.close();
  }

  /** A new token, for the present connection and those to come; after `unauthorized` it connects again. */
  async setToken(token: string): Promise<void> {
    this.#token = token;
    if (this.#current.phase === "online") await this.#link?.ask({ type: "refresh", token });
    else if (this.#current.phase === "unauthorized") await this.#begin();
  }

  /** The round trip to the server, now. */
  async ping(): Promise<number> {
    const lag = await this.#link?.ping();
    if (lag === undefined) throw new RoundtableError("network", "not connected");
    return lag;
  }

  // ——— The connection

  #tell(change: Partial<ConnectionState>): void {
    let catchingUp = 0;
    for (const { status } of this.#rooms.values()) if (status === "waiting" || status === "catching_up") catchingUp++;
    const next: ConnectionState = { ...this.#current, ...change, catchingUp };
    if ((Object.keys(next) as Array<keyof ConnectionState>).every((key) => next[key] === this.#current[key])) return;
    this.#current = next;
    this.emit("state", next);
  }

  async #start(why: TokenReason): Promise<void> {
    const generation = ++this.#generation;
    clearTimeout(this.#timer);
    this.#tell({ phase: "connecting", attempt: this.#attempt, retryInMs: undefined });
    const source = this.#options.token;
    if (typeof source === "function" && (this.#token === undefined || why !== "connect")) {
      try {
        this.#token = await source(why);
      } catch (error) {
        if (generation === this.#generation) this.#again(new RoundtableError("network", `no token: ${error}`), why);
        return;
      }
      if (generation !== this.#generation) return;
    }
    const hello = { type: "hello", token: this.#token, client: this.#options.client ?? "roundtable-client/0.1" };
    const WebSocket = this.#options.WebSocket ?? usualWebSocket;
    const wanted = this.#options.transport ?? "auto";
    const stream = wanted === "stream" || (wanted === "auto" && (!WebSocket || (this.#blocked >= (this.#socketWorks ? 2 : 1) * STREAM_AFTER && this.#blocked % 2 === 0)));
    const url = this.#url;
    if (!stream && !WebSocket) return this.#finish(new RoundtableError("bad_request", "no WebSocket here: give one as `WebSocket`"));
    const transport = stream ? "stream" : "websocket";
    const mine = () => generation === this.#generation;
    try {
      const link: Link = (this.#link = new Link(
        (hooks) =>
          stream
            ? openStream(this.#fetcher, url, this.#token, hooks)
            : openWebSocket(WebSocket!, url, this.#options.encoding ?? "json", hooks),
        hello,
        {
          welcome: (welcome) => mine() && void this.#welcomed(link, welcome, transport),
          frame: (frame) => mine() && this.#take(frame),
          pong: (lagMs) => mine() && this.#tell({ lagMs: Math.round(lagMs), slow: lagMs > SLOW_MS }),
          ended: (ending, refused) => mine() && this.#ended(ending, refused, transport),
        },
        this.#bounds.requests,
      ));
    } catch (error) {
      // A policy of the page may forbid the very attempt.
      this.#ended({ code: BROKEN, reason: String(error) }, undefined, transport);
    }
  }

  async #welcomed(link: Link, welcome: Welcome, transport: "websocket" | "stream"): Promise<void> {
    const { user, node, limits, reconnect } = welcome;
    const expected = this.#options.user ?? this.user?.id;
    if (expected !== undefined && expected !== user.id)
      return this.#finish(new RoundtableError("different_user", `credentials of ${user.id}, not of ${expected}`));
    this.user = user;
    this.limits = limits;
    this.#pace = { ...START_PACE, ...reconnect };
    this.#rejections = 0;
    // A server that lets one in and breaks soon after is not stormed, but it is no reason to stay away for long either.
    this.#attempt = Math.min(this.#attempt, 1);
    this.#moveAfterMs = undefined;
    this.#onlineSince = now();
    const again = this.#blocked > 0 && transport === "stream" && this.#options.transport !== "stream";
    if (transport === "websocket") {
      this.#socketWorks = true;
      this.#blocked = 0;
      this.#webSocketAgainMs = WEBSOCKET_AGAIN_MS;
    } else if (again) this.#probeWebSocket();
    this.#tell({ phase: "online", transport, node, draining: false, slow: false, lagMs: undefined, error: undefined, retryInMs: undefined });
    void link.ping();
    for (const room of this.#rooms.values()) room.connected();
    const resumed = this.#resumed;
    this.#resumed = true;
    this.emit("online", { user, node, resumed });
    await this.outbox.open(user.id);
    if (this.#link === link) this.#release();
  }

  #release(): void {
    this.#serving = this.#link;
    this.#settle((waiter) => waiter.resolve(this.#link!));
  }
  #settle(decide: (waiter: Waiter) => void, which: (waiter: Waiter) => boolean = () => true): void {
    for (const waiter of this.#waiters) if (which(waiter) && this.#waiters.delete(waiter)) decide(waiter);
  }

  #take(frame: ServerFrame): void {
    if (frame.type === "notice") {
      if (frame.code === "draining") {
        this.#moveAfterMs = frame.reconnect_after_ms;
        this.#tell({ draining: true });
      } else if (frame.code === "credentials_expiring") void this.#refresh();
      this.emit("notice", frame);
    } else if ("room" in frame) this.#rooms.get(frame.room)?.take(frame);
  }

  async #refresh(): Promise<void> {
    const link = this.#link;
    if (typeof this.#options.token !== "function") return;
    try {
      const token = await this.#options.token("expiring");
      if (token === undefined || token === this.#token) return;
      this.#token = token;
      await link?.ask({ type: "refresh", token });
    } catch {
      // The connection will end with 4301, and the token is asked for again.
    }
  }

  #ended(ending: Ending, refused: RoundtableError | undefined, transport: "websocket" | "stream"): void {
    const { code, status } = ending;
    const welcomed = this.#link?.welcome !== undefined;
    const class_ = Math.floor(code / 100);
    const error = (known: RoundtableError["code"]) =>
      new RoundtableError(known, refused?.message ?? (ending.reason || `the connection ended with ${code}`), {
        closeCode: code, status, retryAfterMs: ending.retryAfterMs,
      });
    this.#link = undefined;
    this.#dropped();
    // What let a stream pass may let a WebSocket pass by now.
    if (welcomed && transport === "stream") this.#blocked = Math.min(this.#blocked, 1);
    if (!welcomed && (transport === "stream" || (code === BROKEN && status !== 401 && status !== 429 && status !== 503))) this.#blocked++;
    if (class_ === 40) return this.#finish(error(refused?.code ?? (code === 4003 ? "revoked" : "protocol")));
    // Of a WebSocket a proxy may say that as well, who would let a stream pass.
    if (status === 403 && (transport === "stream" || this.#options.transport === "websocket")) return this.#finish(error("forbidden"));
    if (class_ === 43 || status === 401) return this.#reject(error("unauthenticated"), code === 4301 ? "expired" : "rejected");
    this.#at++;
    if (class_ === 42) return this.#again(error("network"), "connect", this.#moveAfterMs ?? 0);
    this.#again(error(class_ === 41 ? "too_many_connections" : "network"), "connect");
    // A browser does not say why a WebSocket was refused; a bad cookie is found out by asking elsewhere.
    if (!welcomed && code === BROKEN && status === undefined && this.#token === undefined) {
      const generation = this.#generation;
      this.api.me().catch((why: RoundtableError) => {
        if (generation === this.#generation && why.code === "unauthenticated") this.#reject(why, "rejected");
      });
    }
  }

  // The token is no good (any more).
  #reject(error: RoundtableError, why: TokenReason): void {
    const steady = this.#onlineSince !== undefined && now() - this.#onlineSince > STEADY_MS;
    // Twice in a row a fresh one was refused: whoever gives them has to do something first.
    if (typeof this.#options.token === "function" && (steady || ++this.#rejections <= 2)) return void this.#start(why);
    this.#onlineSince = undefined;
    this.#generation++;
    clearTimeout(this.#timer);
    this.#tell({ phase: "unauthorized", error, transport: undefined, node: undefined });
    // Messages wait on for better credentials.
    this.#settle((waiter) => waiter.reject(error), (waiter) => !waiter.patient);
  }

  // Comes back later. `atOnce`: the server asked for it, after so many milliseconds.
  #again(error: RoundtableError, why: TokenReason, atOnce?: number): void {
    const generation = ++this.#generation;
    if (this.#onlineSince !== undefined && now() - this.#onlineSince > STEADY_MS) this.#attempt = 0;
    this.#onlineSince = undefined;
    // A server that always says "come back at once" is not followed faster than one that says nothing.
    const wait = Math.max(atOnce !== undefined && this.#attempt === 0 ? atOnce : backoff(this.#attempt, this.#pace), error.retryAfterMs ?? 0);
    this.#attempt++;
    this.#tell({
      phase: globalThis.navigator?.onLine === false ? "offline" : "waiting",
      error, retryInMs: Math.round(wait), attempt: this.#attempt, transport: undefined, node: undefined,
    });
    this.#timer = setTimeout(() => generation === this.#generation && void this.#start(why), wait);
  }

  // Tries at once instead of waiting on: there is a reason to think that it works now.
  #hurry(): void {
    const { phase, error } = this.#current;
    if ((phase === "waiting" || phase === "offline") && !error?.retryAfterMs) void this.#start("connect");
  }

  #dropped(): void {
    clearTimeout(this.#probe);
    this.#serving = undefined;
    const online = this.#current.phase === "online";
    if (online) for (const room of this.#rooms.values()) room.disconnected();
    if (online) queueMicrotask(() => this.#current.error && this.emit("offline", { error: this.#current.error }));
  }

  #finish(error: RoundtableError): void {
    this.#generation++;
    clearTimeout(this.#timer);
    this.#link?.close();
    this.#link = undefined;
    this.#dropped();
    this.#onlineSince = undefined;
    this.#stopWatching?.();
    this.#stopWatching = undefined;
    this.#tell({ phase: "closed", error, transport: undefined, node: undefined, retryInMs: undefined });
    this.#settle((waiter) => waiter.reject(error));
    if (error.code === "closed") for (const room of this.#rooms.values()) room.closed();
  }

  // On the second-best way: is the best one open again? A socket that opens is answer enough.
  #probeWebSocket(): void {
    const WebSocket = this.#options.WebSocket ?? usualWebSocket;
    if (!WebSocket) return;
    this.#probe = setTimeout(() => {
      this.#webSocketAgainMs = Math.min(this.#webSocketAgainMs * 2, 16 * WEBSOCKET_AGAIN_MS);
      const generation = this.#generation;
      const socket = openWebSocket(WebSocket, this.#url, "json", {
        opened: () => {
          socket.close();
          if (generation !== this.#generation) return;
          this.#blocked = 0;
          this.#link?.close();
          this.#link = undefined;
          this.#dropped();
          void this.#start("connect");
        },
        frame: () => {},
        ended: () => generation === this.#generation && this.#probeWebSocket(),
      });
    }, this.#webSocketAgainMs);
  }

  // ——— Time, and what the platform knows of the network

  #listen(): void {
    const stops = [watch((jumped) => this.#tick(jumped))];
    const { document } = globalThis;
    const wake = () => document.visibilityState === "visible" && this.#woke();
    if (document) {
      const listen = (target: EventTarget, ...names: string[]) => {
        for (const name of names) {
          target.addEventListener(name, wake);
          stops.push(() => target.removeEventListener(name, wake));
        }
      };
      listen(globalThis as unknown as EventTarget, "online", "offline", "pageshow");
      listen(document, "visibilitychange", "resume");
    }
    this.#stopWatching = () => stops.forEach((stop) => stop());
  }

  #woke(): void {
    if (globalThis.navigator?.onLine === false) {
      if (this.#current.phase === "waiting") this.#tell({ phase: "offline" });
    } else this.#hurry();
    this.#link?.woke();
  }

  #tick(jumped: boolean): void {
    if (jumped) {
      this.emit("woke", undefined);
      return this.#woke();
    }
    const link = this.#link;
    if (!link) return;
    link.check(Math.min(PING_MS, (link.welcome?.heartbeat_s ?? 15) * 1000), this.#patience);
    if (this.#link === link && link.pending > SLOW_MS) this.#tell({ slow: true, lagMs: Math.round(link.pending) });
    // Steady again: the next trouble begins with the shortest wait.
    if (this.#onlineSince !== undefined && this.#attempt > 0 && now() - this.#onlineSince > STEADY_MS) {
      this.#attempt = 0;
      this.#tell({ attempt: 0 });
    }
  }

  // ——— Requests

  #ready(signal: AbortSignal | undefined, patient: boolean): Promise<Link> {
    // After a welcome, but before the outbox is read, nobody goes: what is older goes first.
    if (this.#serving) return Promise.resolve(this.#serving);
    if (this.#current.phase === "closed") return Promise.reject(this.#current.error);
    if (this.#waiters.size >= this.#bounds.requests + this.#bounds.outboxMessages)
      return Promise.reject(new RoundtableError("queue_full", `${this.#waiters.size} requests wait already`));
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { patient, resolve: (link: Link) => (off(), resolve(link)), reject: (error: RoundtableError) => (off(), reject(error)) };
      const aborted = () => {
        this.#waiters.delete(waiter);
        waiter.reject(new RoundtableError("cancelled", "taken back"));
      };
      const off = () => signal?.removeEventListener("abort", aborted);
      signal?.addEventListener("abort", aborted);
      this.#waiters.add(waiter);
    });
  }

  /** Asks until the answer decides: again after a lost connection, after `unavailable` and its like. `told`: it is asked, or why it has to wait. */
  async #ask(frame: ClientFrame, signal?: AbortSignal, told: (error: RoundtableError | undefined) => void = () => {}, first?: (answer: ServerFrame) => void): Promise<ServerFrame> {
    for (let attempt = 0, faults = 0; ; attempt++) {
      if (signal?.aborted) throw new RoundtableError("cancelled", "taken back");
      const link = await this.#ready(signal, first !== undefined);
      const limit = this.limits?.frame_bytes ?? 65536;
      const json = JSON.stringify(frame);
      if (json.length * 3 > limit && new TextEncoder().encode(json).length + 32 > limit)
        throw new RoundtableError("bad_request", `larger than a frame may be: ${limit} bytes`);
      let wait: number;
      try {
        told(undefined);
        return await link.ask(frame, first);
      } catch (thrown) {
        const error = thrown as RoundtableError;
        if (error.code === "internal" ? ++faults > 1 : !error.retryable) throw error;
        told(error);
        if (error.code === "network") {
          // Whoever closed the client, or must mend something first, decides; else the next connection asks again.
          await Promise.resolve();
          continue;
        }
        wait = Math.max(error.retryAfterMs ?? 0, 0) + backoff(Math.min(attempt, 6), REPEAT_PACE);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, wait);
        function done() {
          clearTimeout(timer);
          signal?.removeEventListener("abort", done);
          resolve();
        }
        signal?.addEventListener("abort", done);
      });
    }
  }

  async #read<Type extends ServerFrame["type"]>(frame: ClientFrame): Promise<Answer<Type>> {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), this.#patience.readMs);
    try {
      return (await this.#ask(frame, stop.signal)) as Answer<Type>;
    } catch (error) {
      if (stop.signal.aborted) throw new RoundtableError("timeout", `no answer within ${this.#patience.readMs} ms`);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

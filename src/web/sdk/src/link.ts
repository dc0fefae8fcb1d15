// A connection after its welcome or on the way there: numbers requests, matches answers, keeps to the server's window, measures the lag.

import { fromServer, RoundtableError } from "./errors.js";
import type { ClientFrame, ServerFrame, Welcome } from "./frames.js";
import { now } from "./clock.js";
import { BROKEN, type Ending, type Hooks, type Transport } from "./transport.js";

export type Answer<Type extends ServerFrame["type"] = ServerFrame["type"]> = Extract<ServerFrame, { type: Type }>;

interface Ask {
  frame: ClientFrame;
  since: number;
  /** Sees the answer before whatever follows it on the connection. */
  first: ((answer: ServerFrame) => void) | undefined;
  resolve(answer: ServerFrame): void;
  reject(error: RoundtableError): void;
}

export interface LinkHooks {
  welcome(welcome: Welcome): void;
  /** What nobody asked for. */
  frame(frame: ServerFrame): void;
  pong(lagMs: number): void;
  ended(ending: Ending, refused: RoundtableError | undefined): void;
}

const WAITING_BYTES = 1 << 20; // no more requests go out while the network has not taken these
const HELLO = 0;

export class Link {
  welcome: Welcome | undefined;
  /** Why the server refused the `hello`. */
  #refused: RoundtableError | undefined;
  readonly #hooks: LinkHooks;
  readonly #queued: number;
  readonly #transport: Transport;
  #since = now();
  readonly #asks = new Map<number, Ask>();
  readonly #queue: Ask[] = [];
  #ref = HELLO;
  #pinged: { ref: number; at: number } | undefined;
  #heard = now();
  #lastPing = now();
  #over = false;
  #pings: Array<(lagMs: number | undefined) => void> = [];

  constructor(
    open: (hooks: Hooks) => Transport,
    hello: ClientFrame,
    hooks: LinkHooks,
    queued: number,
  ) {
    this.#hooks = hooks;
    this.#queued = queued;
    this.#transport = open({
      opened: () => this.#transport.send({ ...hello, ref: HELLO }),
      frame: (frame) => this.#take(frame),
      ended: (ending) => this.#end(ending),
    });
  }

  #end(ending: Ending): void {
    if (this.#over) return;
    this.#over = true;
    const lost = new RoundtableError("network", ending.reason || "the connection ended", { closeCode: ending.code });
    for (const ask of [...this.#asks.values(), ...this.#queue]) ask.reject(lost);
    for (const told of this.#pings) told(undefined);
    this.#asks.clear();
    this.#queue.length = 0;
    this.#hooks.ended(ending, this.#refused);
  }

  /** Gives the connection up. */
  fail(reason: string): void {
    this.#transport.close();
    this.#end({ code: BROKEN, reason });
  }

  /** Ends it without a word to anybody but who waits for answers. */
  close(): void {
    this.#hooks.ended = () => {};
    this.fail("the client was closed");
  }

  #take(frame: ServerFrame): void {
    this.#heard = now();
    if (frame.ref === HELLO && !this.welcome) {
      if (frame.type === "welcome") {
        this.welcome = frame;
        this.#hooks.welcome(frame);
      } else if (frame.type === "error") this.#refused = fromServer(frame);
      return;
    }
    if (frame.type === "pong") return this.#pong(frame.ref);
    if (frame.ref === undefined) return this.#hooks.frame(frame);
    const ask = this.#asks.get(frame.ref);
    if (!ask) return;
    this.#asks.delete(frame.ref);
    if (frame.type === "error") ask.reject(fromServer(frame));
    else {
      ask.first?.(frame);
      ask.resolve(frame);
    }
    this.#pump();
  }

  /** Asks; the answer, or the server's refusal, or `network` where the connection ended first. */
  ask(frame: ClientFrame, first?: (answer: ServerFrame) => void): Promise<ServerFrame> {
    return new Promise((resolve, reject) => {
      if (this.#over) return reject(new RoundtableError("network", "not connected"));
      if (this.#queue.length >= this.#queued)
        return reject(new RoundtableError("queue_full", `${this.#queued} requests wait already`));
      this.#queue.push({ frame, since: 0, first, resolve, reject });
      this.#pump();
    });
  }

  #pump(): void {
    const window = this.welcome?.limits.inflight ?? 0;
    while (this.#queue.length && this.#asks.size < window && this.#transport.waiting() < WAITING_BYTES) {
      const ask = this.#queue.shift()!;
      ask.since = now();
      ask.frame = { ...ask.frame, ref: ++this.#ref };
      this.#asks.set(this.#ref, ask);
      this.#transport.send(ask.frame);
    }
  }

  /** Says something that nobody answers; dropped where the network takes nothing. */
  say(frame: ClientFrame): void {
    if (this.welcome && !this.#over && this.#transport.waiting() < WAITING_BYTES) this.#transport.send(frame);
  }

  /** How long the server takes to answer now; undefined where the connection ended first. */
  ping(): Promise<number | undefined> {
    const answer = new Promise<number | undefined>((resolve) => this.#pings.push(resolve));
    if (!this.#pinged && this.welcome) {
      this.#pinged = { ref: ++this.#ref, at: now() };
      this.#lastPing = now();
      this.#transport.send({ type: "ping", ref: this.#ref });
    }
    if (this.#over || !this.welcome) this.#pings.splice(0).forEach((told) => told(undefined));
    return answer;
  }

  #pong(ref: number | undefined): void {
    if (!this.#pinged || ref !== this.#pinged.ref) return;
    const lag = now() - this.#pinged.at;
    this.#pinged = undefined;
    for (const told of this.#pings.splice(0)) told(lag);
    this.#hooks.pong(lag);
  }

  /** How long a ping has been without an answer. */
  get pending(): number {
    return this.#pinged ? now() - this.#pinged.at : 0;
  }

  /** Once a second: is the server still there? `patience` for connecting, a ping, an answer. */
  check(pingEvery: number, patience: { connectMs: number; pongMs: number; answerMs: number }): void {
    const time = now();
    this.#pump();
    if (!this.welcome) {
      if (time - this.#since > patience.connectMs) this.fail("no welcome in time");
    } else if (this.#pinged && time - Math.max(this.#pinged.at, this.#heard) > patience.pongMs) this.fail("the server does not answer");
    else if ([...this.#asks.values()].some((ask) => time - ask.since > patience.answerMs)) this.fail("a request was not answered");
    else if (!this.#pinged && time - this.#lastPing >= pingEvery) void this.ping();
  }

  /** Time jumped: nothing that was late is held against the server, but it is asked at once whether it is still there. */
  woke(): void {
    const time = now();
    for (const ask of this.#asks.values()) ask.since = Math.max(ask.since, time - 1);
    this.#since = this.#heard = time;
    if (this.#pinged) this.#pinged.at = time;
    else void this.ping();
  }
}

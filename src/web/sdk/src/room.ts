// A room: a cursor over its log that survives everything, and what one can do there.

import { now } from "./clock.js";
import { Emitter, uncaught } from "./emitter.js";
import { RoundtableError } from "./errors.js";
import type { ClientFrame, Entry, History, Json, Presence, Read, Role, ServerFrame, Subscribed, Typing } from "./frames.js";
import type { Answer } from "./link.js";
import type { Outbox, Sending } from "./outbox.js";

export interface RoomEvents {
  /**
   * Entries of the log, each once, in order, without a gap. A listener that answers with a promise is not called again before
   * it is settled: what comes meanwhile waits, and where too much waits the cursor pauses.
   */
  entries: Entry[];
  /** The cursor could not go on from where it was: entries after `from` up to `head` are not told, load them by `history`. */
  reset: { from: number; head: number };
  /** The cursor is placed: at first, and again after each reconnect. */
  subscribed: Subscribed;
  /** The subscription ended for good: `kicked`, `banned`, `deleted` …, or the code of a refusal (`not_found`, `forbidden`). */
  unsubscribed: { code: string; error?: RoundtableError };
  presence: Presence;
  typing: Typing;
  read: Read;
  /** `status`, `head`, `role` or `online` changed. */
  change: Room;
}

export type RoomStatus =
  | "idle" // not subscribed
  | "waiting" // for a connection, or for the answer
  | "catching_up" // entries up to `head` are on their way
  | "live"
  | "paused"; // the application is slow: nothing more is fetched until it has taken half of what waits

export interface SubscribeOptions {
  /** Start behind this seq: what was handled before, of a page or process that ended. */
  after?: number;
  /** Start with so many of the newest entries. */
  last?: number;
  /** After a `reset`, read what is missing from the history instead of leaving it out. For bots that must not miss an entry. */
  fill?: boolean;
}

/** @internal What a room needs of its client. */
export interface Base {
  readonly outbox: Outbox;
  readonly queuedEntries: number;
  readonly me: () => string | undefined;
  /** Asks until there is an answer that decides; over reconnects. */
  ask(frame: ClientFrame, signal?: AbortSignal): Promise<ServerFrame>;
  /** Asks on the present connection only. */
  askOnce(frame: ClientFrame, first?: (answer: ServerFrame) => void): Promise<ServerFrame>;
  read<Type extends ServerFrame["type"]>(frame: ClientFrame): Promise<Answer<Type>>;
  say(frame: ClientFrame): void;
  connected(): boolean;
  changed(): void;
}

const TYPING_AGAIN_MS = 3000; // the server forgets "is typing" after 6 s
const HISTORY = 200;

export class Room extends Emitter<RoomEvents> {
  status: RoomStatus = "idle";
  /** The highest seq that was handed to the application (and whose listeners are done). */
  seq = 0;
  /** The highest seq that is known of. */
  head = 0;
  /** One's role; null: not a member. */
  role: Role | null = null;
  /** Distinct people with a subscription. */
  online = 0;

  // The subscription, where there is one: what it began with, and the last entry that was queued (undefined: not known yet).
  #wanted: SubscribeOptions | undefined;
  #cursor: number | undefined;
  #placing = 0; // raised with each subscribe: an answer to an older one decides nothing
  #placed: { resolve(subscribed: Subscribed): void; reject(error: RoundtableError): void } | undefined;
  #queue: Entry[] = [];
  #handling = 0; // entries that listeners are busy with
  #taken: Promise<unknown> = Promise.resolve(); // by the listeners, the last batch
  #lane: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #typed = -Infinity;
  #marked = 0;
  #told = 0;
  readonly #base: Base;
  readonly #requests: number;

  /** @internal */
  constructor(
    readonly id: string,
    base: Base,
    requests: number,
  ) {
    super();
    this.#base = base;
    this.#requests = requests;
  }

  /**
   * Follows the room, over every reconnect, until `unsubscribe` or `unsubscribed`. The answer says how it began; to be told of every entry, listen
   * for `entries` first. With neither `after` nor `last` it starts at the head.
   */
  subscribe(options: SubscribeOptions = {}): Promise<Subscribed> {
    if (options.after !== undefined && options.last !== undefined)
      return Promise.reject(new RoundtableError("bad_request", "either after or last"));
    this.#placed?.reject(new RoundtableError("cancelled", "subscribed again"));
    this.#wanted = options;
    this.#cursor = options.after;
    this.seq = options.after ?? 0;
    this.#queue = [];
    const placed = new Promise<Subscribed>((resolve, reject) => (this.#placed = { resolve, reject }));
    this.#place();
    return placed;
  }

  async unsubscribe(): Promise<void> {
    if (!this.#wanted) return;
    this.#end(new RoundtableError("cancelled", "unsubscribed"));
    if (this.#base.connected()) await this.#base.askOnce({ type: "unsubscribe", room: this.id }).catch(() => {});
  }

  #end(error: RoundtableError): void {
    this.#wanted = undefined;
    this.#placing++;
    this.#placed?.reject(error);
    this.#placed = undefined;
    this.#queue = [];
    this.#set("idle");
  }

  #set(status: RoomStatus): void {
    this.status = status;
    this.#base.changed();
    this.emit("change", this);
  }

  // Puts the cursor where it belongs, on the present connection.
  #place(): void {
    if (!this.#wanted || this.status === "paused") return;
    this.#set("waiting");
    if (!this.#base.connected()) return;
    const placing = ++this.#placing;
    const { last } = this.#wanted;
    const from = this.#cursor !== undefined ? { after: this.#cursor } : last !== undefined ? { last } : {};
    const first = (answer: ServerFrame) => placing === this.#placing && this.#subscribed(answer as Answer<"subscribed">);
    this.#base.askOnce({ type: "subscribe", room: this.id, ...from }, first).catch((error: RoundtableError) => {
      if (placing !== this.#placing || !this.#wanted || error.code === "network") return; // the next connection does it
      if (error.retryable) return void setTimeout(() => placing === this.#placing && this.#place(), Math.max(error.retryAfterMs ?? 0, 250));
      this.#end(error);
      this.emit("unsubscribed", { code: error.code, error });
    });
  }

  /** @internal */
  connected(): void {
    this.#place();
    this.#told = 0;
    this.#mark();
  }

  /** @internal */
  disconnected(): void {
    this.#placing++;
    if (this.#wanted && this.status !== "paused") this.#set("waiting");
  }

  /** @internal The client is closed. */
  closed(): void {
    if (this.#wanted) this.#end(new RoundtableError("closed", "the client was closed"));
  }

  /** @internal A frame of this room. */
  take(frame: ServerFrame): void {
    switch (frame.type) {
      case "events": return this.#entriesCame(frame.events);
      case "presence":
        this.online = frame.online;
        this.emit("presence", frame);
        return void this.emit("change", this);
      case "typing": return void this.emit("typing", frame);
      case "read": return void this.emit("read", frame);
      case "unsubscribed":
        if (!this.#wanted) return;
        this.role = null;
        this.#end(new RoundtableError(frame.code === "deleted" ? "not_found" : "forbidden", `unsubscribed: ${frame.code}`));
        return void this.emit("unsubscribed", { code: frame.code });
    }
  }

  #subscribed(frame: Answer<"subscribed">): void {
    if (!this.#wanted) return;
    const { head, verdict, role, online } = frame;
    Object.assign(this, { head, role, online });
    const from = this.#cursor;
    if (verdict === "reset" && this.#wanted.fill && from !== undefined && from < head) return void this.#fill(from);
    if (verdict === "reset" || (from === undefined && verdict === "live")) {
      this.#cursor = head;
      if (!this.#handling && !this.#queue.length) this.seq = head;
    }
    this.status = verdict === "replay" && (this.#cursor ?? -1) < head ? "catching_up" : "live";
    const subscribed: Subscribed = { room: this.id, head, verdict, role, online };
    if (verdict === "reset") this.emit("reset", { from: from ?? 0, head });
    this.#placed?.resolve(subscribed);
    this.#placed = undefined;
    this.emit("subscribed", subscribed);
    this.#set(this.status);
  }

  // Reads what a reset left out, then places the cursor behind it. Live entries meanwhile are dropped and replayed.
  async #fill(from: number): Promise<void> {
    const placing = ++this.#placing;
    this.#base.askOnce({ type: "unsubscribe", room: this.id }).catch(() => {});
    this.#set("waiting");
    const still = () => placing === this.#placing && this.#wanted;
    try {
      for (let more = true; more && still(); ) {
        const page = await this.#base.read<"history">({ type: "history", room: this.id, after: from, limit: HISTORY });
        if (!still()) return;
        more = page.more;
        for (const entry of page.events) this.#push(entry);
        from = this.#cursor = page.events.at(-1)?.seq ?? from;
        this.#deliver();
        // What the application has not taken holds the reading back.
        await this.#taken;
      }
      if (still()) this.#place();
    } catch (thrown) {
      if (!still()) return;
      const error = thrown as RoundtableError;
      if (error.retryable || error.unknown) return this.#place();
      this.#end(error);
      this.emit("unsubscribed", { code: error.code, error });
    }
  }

  #entriesCame(events: Entry[]): void {
    // Before the cursor is placed whatever comes is of an older one; it comes again.
    if (this.status !== "live" && this.status !== "catching_up") return;
    for (const entry of events) {
      if (this.#cursor !== undefined && entry.seq <= this.#cursor) continue; // told before
      if (this.#cursor !== undefined && entry.seq !== this.#cursor + 1) {
        // Not what the protocol promises: start again behind what is surely told.
        this.#place();
        break;
      }
      this.#cursor = entry.seq;
      this.#push(entry);
    }
    if (this.#queue.length + this.#handling > this.#base.queuedEntries) {
      this.#placing++;
      this.#set("paused");
      this.#base.askOnce({ type: "unsubscribe", room: this.id }).catch(() => {});
    }
    this.#deliver();
    if (this.status === "catching_up" && (this.#cursor ?? 0) >= this.head) this.#set("live");
  }

  #push(entry: Entry): void {
    this.head = Math.max(this.head, entry.seq);
    this.#queue.push(entry);
    if (entry.kind === "message" && entry.user === this.#base.me()) this.#base.outbox.seen(this.id, entry.id, entry.seq, entry.at);
  }

  #deliver(): void {
    while (this.#queue.length && !this.#handling) {
      const batch = this.#queue.splice(0);
      this.#handling = batch.length;
      const last = batch.at(-1)!.seq;
      const wanted = this.#wanted;
      const busy = this.emit("entries", batch).filter((answer) => answer instanceof Promise) as Promise<unknown>[];
      const done = () => {
        this.#handling = 0;
        // Another subscribe may have begun elsewhere meanwhile.
        if (wanted === this.#wanted) this.seq = last;
      };
      if (!busy.length) {
        done();
        continue;
      }
      this.#taken = Promise.all(busy.map((answer) => answer.catch(uncaught))).then(() => {
        done();
        this.emit("change", this);
        this.#deliver();
      });
    }
    if (this.status === "paused" && this.#queue.length + this.#handling <= this.#base.queuedEntries / 2) {
      this.status = "waiting";
      this.#place();
    }
  }

  /** Entries one after the other, as a stream with back pressure: `for await (const entry of room.entries())`. Ends with the subscription. */
  async *entries(): AsyncGenerator<Entry, void, undefined> {
    const batches: Array<{ batch: Entry[]; done(): void }> = [];
    let wake = () => {};
    let over = false;
    const off = [
      this.on("entries", (batch) => new Promise<void>((done) => {
        batches.push({ batch, done });
        wake();
      })),
      this.on("change", () => {
        if (this.status !== "idle") return;
        over = true;
        wake();
      }),
    ];
    try {
      for (;;) {
        const next = batches.shift();
        if (next) {
          try {
            yield* next.batch;
          } finally {
            next.done();
          }
        } else if (over) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      for (const stop of off) stop();
      for (const { done } of batches) done();
    }
  }

  // ——— What one can do here. All of it waits for a connection where there is none, and is repeated until it is decided.

  /** Says something; resolves when it is committed. The id is there at once: `room.send("hi").id`. */
  send(text: string, options: { id?: string; reply_to?: number; data?: Json } = {}): Sending {
    return this.#base.outbox.send(this.id, text, options);
  }
  /** Changes the text of one's own message; the entry's seq, null where nothing changed. */
  edit(target: number, text: string, signal?: AbortSignal): Promise<number | null> {
    return this.#act({ type: "edit", target, text }, signal);
  }
  delete(target: number, signal?: AbortSignal): Promise<number | null> {
    return this.#act({ type: "delete", target }, signal);
  }
  react(target: number, emoji: string, active = true, signal?: AbortSignal): Promise<number | null> {
    return this.#act({ type: "react", target, emoji, active }, signal);
  }
  async join(signal?: AbortSignal): Promise<Role> {
    const { role } = await this.#inTurn({ type: "join" }, signal);
    this.role = role ?? "member";
    this.emit("change", this);
    return this.role;
  }
  async leave(signal?: AbortSignal): Promise<void> {
    await this.#inTurn({ type: "leave" }, signal);
    this.role = null;
    this.emit("change", this);
  }

  async #act(frame: ClientFrame, signal?: AbortSignal): Promise<number | null> {
    return (await this.#inTurn(frame, signal)).seq ?? null;
  }

  // One after the other, so that none that is repeated comes behind a later one.
  #inTurn(frame: ClientFrame, signal?: AbortSignal): Promise<Answer<"ok">> {
    if (this.#waiting >= this.#requests)
      return Promise.reject(new RoundtableError("queue_full", `${this.#waiting} requests wait already`));
    this.#waiting++;
    const answer = this.#lane.then(() => this.#base.ask({ ...frame, room: this.id }, signal) as Promise<Answer<"ok">>);
    this.#lane = answer.catch(() => {}).then(() => void this.#waiting--);
    return answer;
  }

  /** A page of the log in rising seq: before or after a seq, or the newest. */
  async history(options: { before?: number; after?: number; limit?: number } = {}): Promise<History> {
    const { room, events, more } = await this.#base.read<"history">({ type: "history", room: this.id, ...options });
    return { room, events, more };
  }

  /** Call it with each key; the others are told no more often than is useful. Not said at all while there is no connection. */
  typing(active: boolean): void {
    const time = now();
    if (active ? time - this.#typed < TYPING_AGAIN_MS : this.#typed === -Infinity) return;
    this.#typed = active ? time : -Infinity;
    this.#base.say({ type: "typing", room: this.id, active });
  }

  /** Raises one's read mark. Said again after a reconnect; for an answer that it is durable see `api.markRead`. */
  read(seq: number): void {
    if (seq <= this.#marked) return;
    this.#marked = seq;
    this.#mark();
  }
  #mark(): void {
    if (this.#marked <= this.#told || !this.#base.connected()) return;
    this.#told = this.#marked;
    this.#base.say({ type: "read", room: this.id, seq: this.#marked });
  }
}

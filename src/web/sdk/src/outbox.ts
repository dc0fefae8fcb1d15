// Messages on their way. Each has an id of its own from the start and is repeated under it until the server says what became of it, over
// lost connections and, with a storage that lasts, over the end of the page. One room's messages go one after the other, so that none that is repeated comes
// behind a later one.

import { newId } from "./clock.js";
import { Emitter } from "./emitter.js";
import { RoundtableError, type ErrorCode } from "./errors.js";
import type { ClientFrame, Json, Sent, ServerFrame } from "./frames.js";
import { Owners } from "./owners.js";
import type { OutboxStorage, StoredMessage } from "./storage.js";

export interface OutboxItem {
  readonly room: string;
  readonly id: string;
  readonly text: string;
  readonly reply_to?: number;
  readonly data?: Json;
  /** When the application sent it, in milliseconds of the wall's clock. */
  readonly at: number;
  /** `waiting` for its turn or a connection; `sending`: asked, not answered; `failed`: refused, and kept for `retry` or `discard`. */
  readonly state: "waiting" | "sending" | "failed";
  /** Why it failed, or why it has to wait. */
  readonly error?: RoundtableError;
}

export interface OutboxEvents {
  /** `sent` carries where it is in the log now. */
  change: { item: OutboxItem; change: "added" | "updated" | "sent" | "failed" | "discarded"; sent?: Sent };
  /** The storage failed: from now on messages wait in memory, and do not outlive the page. */
  volatile: unknown;
}

/** The promise of the commit; `id` is the message's. */
export type Sending = Promise<Sent> & { readonly id: string };

interface Waiting {
  item: OutboxItem;
  n: number;
  bytes: number;
  stored: boolean;
  over: boolean;
  /** Nobody asks for it at present: the client ended. */
  idle?: boolean;
  /** Another left it. */
  left?: boolean;
  /** Wakes whoever waits to repeat it. */
  stop: AbortController;
  resolve(sent: Sent): void;
  reject(error: RoundtableError): void;
}

/** `told`: it is asked now, or why it has to wait; `first`: the answer, before anything that follows it. */
type AskWith = (
  frame: ClientFrame, signal: AbortSignal, told: (error: RoundtableError | undefined) => void, first: (answer: ServerFrame) => void,
) => Promise<unknown>;

export interface OutboxBounds { messages: number; bytes: number }

const STORAGE_MS = 5000;

const bytesOf = (item: { text: string; data?: Json }) => 3 * item.text.length + (item.data === undefined ? 0 : 3 * JSON.stringify(item.data).length) + 200;
const keyOf = (user: string, room: string, id: string) => JSON.stringify([user, room, id]);

export class Outbox extends Emitter<OutboxEvents> {
  readonly #waiting = new Map<string, Waiting>();
  readonly #lanes = new Map<string, Promise<void>>();
  readonly #owner = newId();
  readonly #owners = new Owners();
  #bytes = 0;
  #n = 0;
  #user: string | undefined;
  #storage: OutboxStorage | undefined;
  #work: Promise<void> = Promise.resolve();
  #opened = false;
  #closed = false;
  readonly #bounds: OutboxBounds;
  readonly #keepFailed: boolean;
  readonly #ask: AskWith;
  readonly #ended: () => boolean;

  /** @internal */
  constructor(
    storage: OutboxStorage | undefined,
    bounds: OutboxBounds,
    keepFailed: boolean,
    ask: AskWith,
    ended: () => boolean,
  ) {
    super();
    this.#storage = storage;
    this.#bounds = bounds;
    this.#keepFailed = keepFailed;
    this.#ask = ask;
    this.#ended = ended;
  }

  /** Whether messages outlive the page, as far as the storage does. */
  get durable(): boolean {
    return this.#storage !== undefined && this.#user !== undefined;
  }

  /** What is not sent yet, in the order in which it was given; of one room or of all. */
  items(room?: string): OutboxItem[] {
    return [...this.#waiting.values()].map(({ item }) => item).filter((item) => room === undefined || item.room === room);
  }

  /** @internal */
  send(room: string, text: string, options: { id?: string; reply_to?: number; data?: Json }): Sending {
    const id = options.id ?? newId();
    const item: OutboxItem = {
      room, id, text, at: Date.now(), state: "waiting",
      reply_to: options.reply_to, data: options.data,
    };
    const sending = new Promise<Sent>((resolve, reject) => {
      const bytes = bytesOf(item);
      if (this.#closed) return reject(new RoundtableError("closed", "the client was closed"));
      if (this.#waiting.has(keyOf("", room, id))) return reject(new RoundtableError("conflict", `${id} waits in ${room} already`));
      if (this.#waiting.size >= this.#bounds.messages || this.#bytes + bytes > this.#bounds.bytes) {
        return reject(new RoundtableError("outbox_full", `${this.#waiting.size} messages wait already`));
      }
      const entry = this.#add(item, resolve, reject);
      this.#store(entry);
      this.emit("change", { item, change: "added" });
      this.#go(entry);
    });
    return Object.assign(sending, { id });
  }

  #add(item: OutboxItem, resolve: Waiting["resolve"], reject: Waiting["reject"]): Waiting {
    const entry: Waiting = { item, n: ++this.#n, bytes: bytesOf(item), stored: false, over: false, stop: new AbortController(), resolve, reject };
    this.#waiting.set(keyOf("", item.room, item.id), entry);
    this.#bytes += entry.bytes;
    return entry;
  }

  #update(entry: Waiting, state: OutboxItem["state"], error?: RoundtableError): void {
    if (entry.over || (entry.item.state === state && entry.item.error === error)) return;
    const { error: _, ...item } = entry.item;
    entry.item = { ...item, state, ...(error && { error }) };
    this.emit("change", { item: entry.item, change: state === "failed" ? "failed" : "updated" });
  }

  #drop(entry: Waiting): void {
    entry.over = true;
    entry.stop.abort();
    this.#waiting.delete(keyOf("", entry.item.room, entry.item.id));
    this.#bytes -= entry.bytes;
    if (entry.stored) this.#later((storage) => storage.remove(keyOf(this.#user!, entry.item.room, entry.item.id)));
  }

  // Puts it at the end of its room's lane.
  #go(entry: Waiting): void {
    if (!this.#opened) return;
    const { room } = entry.item;
    const before = this.#lanes.get(room) ?? Promise.resolve();
    const mine: Promise<void> = before.then(() => this.#one(entry)).finally(() => {
      if (this.#lanes.get(room) === mine) this.#lanes.delete(room);
    });
    this.#lanes.set(room, mine);
  }

  async #one(entry: Waiting): Promise<void> {
    if (entry.over || this.#closed || entry.item.state === "failed") return;
    const { room, id, text, reply_to, data } = entry.item;
    try {
      const frame = { type: "send", room, id, text, reply_to, data };
      await this.#ask(
        frame, entry.stop.signal, (error) => this.#update(entry, error ? "waiting" : "sending", error),
        (answer) => this.#sent(entry, answer as ServerFrame & Sent),
      );
    } catch (thrown) {
      const error = thrown as RoundtableError;
      if (entry.over) return;
      // The client's end says nothing about the message: it stays for the next one, or for this one's next connection.
      if (!this.#ended()) this.#failed(entry, error);
      else {
        this.#update(entry, "waiting", error);
        entry.idle = true;
      }
      entry.reject(error);
    }
  }

  #sent(entry: Waiting, { room, id, seq, at, duplicate }: Sent): void {
    if (entry.over) return;
    const sent = { room, id, seq, at, duplicate };
    this.#drop(entry);
    entry.resolve(sent);
    this.emit("change", { item: entry.item, change: "sent", sent });
  }

  #failed(entry: Waiting, error: RoundtableError): void {
    this.#update(entry, "failed", error);
    if (this.#keepFailed) this.#store(entry);
    else this.#drop(entry);
  }

  /** @internal An own message was seen in the log: it is sent, whatever became of the answer. */
  seen(room: string, id: string, seq: number, at: string): void {
    const entry = this.#waiting.get(keyOf("", room, id));
    if (entry) this.#sent(entry, { room, id, seq, at, duplicate: true });
  }

  /** Sends a failed message again, with its id; the promise of the first `send` is long decided, so this gives a new one. */
  retry(room: string, id: string): Sending {
    const entry = this.#waiting.get(keyOf("", room, id));
    const sending = new Promise<Sent>((resolve, reject) => {
      if (entry?.item.state !== "failed") return reject(new RoundtableError("not_found", `${id} has not failed in ${room}`));
      entry.resolve = resolve;
      entry.reject = reject;
      this.#update(entry, "waiting");
      this.#store(entry);
      this.#go(entry);
    });
    return Object.assign(sending, { id });
  }

  /** Takes a message out. One that is `sending` may be in the log all the same. False: it is not here (any more). */
  discard(room: string, id: string): boolean {
    const entry = this.#waiting.get(keyOf("", room, id));
    if (!entry) return false;
    this.#drop(entry);
    entry.reject(new RoundtableError("cancelled", "taken back"));
    this.emit("change", { item: entry.item, change: "discarded" });
    return true;
  }

  /** @internal From now on it is known whose messages these are: those of earlier pages come back, and go first. */
  async open(user: string): Promise<void> {
    if (this.#closed) return;
    if (this.#user !== undefined) {
      for (const entry of this.#waiting.values()) {
        if (entry.idle) this.#go(entry);
        entry.idle = false;
      }
      // Others may have come since, written while nobody was connected, and gone.
      if (this.#owners.tell) void this.#inherit();
      return;
    }
    this.#user = user;
    if (this.#storage) {
      await this.#owners.begin(this.#owner);
      await this.#inherit();
    }
    if (this.#closed) return;
    for (const [key, entry] of [...this.#waiting]) {
      if (entry.left) continue;
      this.#waiting.delete(key);
      entry.n = ++this.#n;
      this.#waiting.set(key, entry);
      this.#store(entry);
    }
    this.#opened = true;
    for (const entry of this.#waiting.values()) this.#go(entry);
  }

  async #load(): Promise<StoredMessage[]> {
    let found: StoredMessage[] = [];
    await this.#later(async (storage) => void (found = await storage.load(this.#user!)));
    return found;
  }

  // Sees to what all others have in the storage.
  async #inherit(): Promise<void> {
    const owners = new Set((await this.#load()).map(({ owner }) => owner));
    for (const owner of [...owners].sort()) await this.#owners.whenGone(owner, () => this.#take(owner));
  }

  // Makes its own what another left.
  async #take(owner: string): Promise<void> {
    // It may be long since this was wanted.
    if (this.#closed) return;
    for (const stored of (await this.#load()).filter((one) => one.owner === owner).sort((a, b) => a.n - b.n)) {
      const { room, id, text, reply_to, data, at, failed } = stored;
      // Beyond the bounds they stay where they are, for a later page.
      if (this.#closed || this.#waiting.size >= this.#bounds.messages || this.#bytes + bytesOf(stored) > this.#bounds.bytes) break;
      if (this.#waiting.has(keyOf("", room, id))) continue;
      const error = failed && new RoundtableError(failed.code as ErrorCode, failed.message);
      const item: OutboxItem = { room, id, text, reply_to, data, at, state: failed ? "failed" : "waiting", ...(error && { error }) };
      // Nobody waits for it any more; who wants to know listens for `change`.
      const entry = this.#add(item, () => {}, () => {});
      entry.left = true;
      this.#store(entry);
      this.emit("change", { item, change: "added" });
      this.#go(entry);
    }
    await this.#work;
  }

  #store(entry: Waiting): void {
    if (!this.#storage || this.#user === undefined) return;
    entry.stored = true;
    const { state, error, ...item } = entry.item;
    const message: StoredMessage = { ...item, key: keyOf(this.#user, item.room, item.id), user: this.#user, owner: this.#owner, n: entry.n };
    if (state === "failed" && error) message.failed = { code: error.code, message: error.message };
    this.#later(async (storage) => {
      if (!entry.over) await storage.put(message);
    });
  }

  // One thing after the other. A storage that fails is not asked again, and said to have failed.
  #later(what: (storage: OutboxStorage) => Promise<void>): Promise<void> {
    return (this.#work = this.#work.then(async () => {
      if (!this.#storage) return;
      let timer;
      try {
        // A store that never answers is one that failed.
        const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error("no answer")), STORAGE_MS)));
        await Promise.race([what(this.#storage), late]);
      } catch (error) {
        this.#storage = undefined;
        this.emit("volatile", error);
      } finally {
        clearTimeout(timer);
      }
    }));
  }

  /** @internal Whoever waits is told; what is stored stays there. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const entry of this.#waiting.values()) {
      entry.stop.abort();
      if (entry.item.state !== "failed") entry.reject(new RoundtableError("closed", "the client was closed"));
    }
    await this.#work;
    this.#owners.end();
    this.#storage?.close?.();
  }
}

// What this page has of a room's log: one stretch without a gap, with what edits, deletions and reactions made of it.
//
// Entries come in two ways that may tell of the same thing: pages of history, which show the present, and live entries, each once
// and in order. A message of both is one message. A page may have been made before what comes live while it is under way: those
// entries are kept until it is here, and applied to it. Whether the tallies of a page count a reaction already that comes live
// around it nobody can tell from outside, so such a message is read again a moment later.
//
// A log of which no page was asked for takes nothing: it is not shown, and begins with the latest page when it is.
import { signal } from "@preact/signals";
import * as api from "../core/api.ts";
import type { Entry, History, MessageEntry, ReactionCount, RoomEntry } from "../core/types.ts";

export interface Item {
  /** The same for a message from before it was sent until it is deleted. */
  key: string;
  seq: number;
  user: string;
  at: string;
  /** A change of the room, where it is no message. */
  change: RoomEntry | null;
  id: string;
  text: string;
  deleted: boolean;
  edited: string | null;
  replyTo: number | null;
  data: unknown;
  mentions: readonly string[];
  mentionsRoom: boolean;
  reactions: readonly ReactionCount[];
  replies: number;
}

/** Messages of one page. */
const PAGE = 100;
/** Messages kept at most; of more, those furthest from where the reader looks are let go, and loaded again when needed. */
export const KEPT = 150_000;
/** Live entries kept while a page is under way; with more, what follows the page is loaded after it. */
const MEANWHILE = 10_000;
/** How long after a page its tallies may know of a live entry. */
const AMBIGUOUS_MS = 3_000;
const REFRESH_AFTER_MS = 400;
/** Messages to read again at a time; of more, the oldest wait for their next change. */
const REFRESHED = 50;

export const keyOf = (user: string, id: string): string => `${user}/${id}`;

function itemOf(entry: MessageEntry | RoomEntry): Item {
  const message = entry.kind === "message" ? entry : null;
  return {
    key: message ? keyOf(entry.user, message.id) : `#${entry.seq}`,
    seq: entry.seq,
    user: entry.user,
    at: entry.at,
    change: entry.kind === "room" ? entry : null,
    id: message?.id ?? "",
    text: message?.text ?? "",
    deleted: message?.deleted ?? false,
    edited: message?.edited_at ?? null,
    replyTo: message?.reply_to ?? null,
    data: message?.data,
    mentions: message?.mentions ?? [],
    mentionsRoom: message?.mentions_room ?? false,
    reactions: message?.reactions ?? [],
    replies: message?.replies ?? 0,
  };
}

export type Side = "older" | "newer";

export class Log {
  /** Rising `seq`. Items are replaced, never changed, so that whoever shows one sees by identity whether to show it again. */
  items: Item[] = [];
  /** Rises with every change. */
  readonly version = signal(0);
  readonly loading = signal<Side | "all" | null>(null);
  readonly failed = signal<{ side: Side | "all"; error: unknown } | null>(null);
  /** Whether there is more before and behind the stretch. */
  older = false;
  newer = false;
  ready = false;
  /** The first and last `seq` that the stretch covers, messages or not. */
  private from = 1;
  private to = 0;
  private readonly at = new Map<number, Item>();
  private pageCame = 0;
  private inFlight = 0;
  /** Live entries that came while pages are under way. */
  private meanwhile: Entry[] = [];
  /** Whether some of them are not among those. */
  private missed = false;
  private generation = 0;
  private readonly stale = new Set<number>();
  private refreshing: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly room: string,
    private readonly me: string,
  ) {}

  get(seq: number): Item | undefined {
    return this.at.get(seq);
  }

  /** Where a message is, or where it would be. */
  indexOf(seq: number): number {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.items[middle]?.seq ?? 0) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  get last(): number {
    return this.to;
  }

  private changed(): void {
    this.version.value++;
  }

  // ---- pages -----------------------------------------------------------------------------------------------------------

  loadLatest(): Promise<boolean> {
    return this.replace({});
  }

  loadAround(seq: number): Promise<boolean> {
    return this.replace({ around: Math.max(1, seq) });
  }

  loadAt(time: Date): Promise<boolean> {
    return this.replace({ at: time.toISOString() });
  }

  /** Keeps what comes live until the act is over. */
  private async during<T>(act: () => Promise<T>): Promise<T> {
    if (this.inFlight++ === 0) {
      this.meanwhile = [];
      this.missed = false;
    }
    try {
      return await act();
    } finally {
      if (--this.inFlight === 0) this.meanwhile = [];
      this.pageCame = Date.now();
    }
  }

  /** Reads a page and lets it be merged; gives whether it was. */
  private load(side: Side | "all", query: Record<string, string | number>, merge: (page: History) => void): Promise<boolean> {
    const generation = ++this.generation;
    this.loading.value = side;
    this.failed.value = null;
    return this.during(async () => {
      let page: History;
      try {
        page = await api.get<History>(`rooms/${this.room}/messages`, { limit: PAGE, ...query });
      } catch (error) {
        if (generation === this.generation) {
          this.failed.value = { side, error };
          this.loading.value = null;
        }
        return false;
      }
      // A later request asked for something else.
      if (generation !== this.generation) return false;
      merge(page);
      this.replay(page.items);
      this.bound(side === "older" ? "newer" : "older");
      this.loading.value = null;
      this.changed();
      return true;
    });
  }

  private replace(query: Record<string, string | number>): Promise<boolean> {
    return this.load("all", query, (page) => {
      const newest = Object.keys(query).length === 0;
      const first = page.items[0]?.seq ?? this.to + 1;
      this.older = newest ? page.more : first > 1;
      this.newer = !newest && page.next !== null;
      this.from = first;
      this.begin(page.items);
    });
  }

  /** Begins with what is read elsewhere: a thread. */
  seed(read: () => Promise<readonly Entry[]>): Promise<void> {
    return this.during(async () => {
      const entries = await read();
      this.begin(entries);
      this.replay(entries);
      this.changed();
    });
  }

  private begin(entries: readonly Entry[]): void {
    this.items = [];
    this.at.clear();
    for (const entry of entries) this.take(entry);
    this.to = entries.at(-1)?.seq ?? this.to;
    this.ready = true;
  }

  private push(item: Item): void {
    this.items.push(item);
    this.at.set(item.seq, item);
  }

  private take(entry: Entry): void {
    if (entry.kind === "message" || entry.kind === "room") this.push(itemOf(entry));
  }

  async loadOlder(): Promise<void> {
    if (!this.older || this.loading.value || !this.ready) return;
    await this.load("older", { before: this.from }, (page) => {
      const more: Item[] = [];
      for (const entry of page.items) {
        if ((entry.kind === "message" || entry.kind === "room") && entry.seq < this.from) more.push(itemOf(entry));
      }
      for (const item of more) this.at.set(item.seq, item);
      this.items = more.concat(this.items);
      this.from = Math.min(this.from, page.items[0]?.seq ?? 1);
      this.older = page.more && page.items.length > 0;
    });
  }

  async loadNewer(): Promise<void> {
    if (!this.newer || this.loading.value || !this.ready) return;
    await this.load("newer", { after: this.to }, (page) => {
      for (const entry of page.items) if (entry.seq > this.to) this.take(entry);
      this.to = Math.max(this.to, page.items.at(-1)?.seq ?? 0);
      this.newer = page.more && page.items.length > 0;
    });
  }

  /** Lets go of what is too much, at the far side. */
  private bound(side: Side): void {
    const over = this.items.length - KEPT;
    if (over <= 0) return;
    const gone = side === "newer" ? this.items.splice(KEPT) : this.items.splice(0, over);
    for (const item of gone) this.at.delete(item.seq);
    if (side === "newer") {
      this.newer = true;
      this.to = this.items.at(-1)?.seq ?? 0;
    } else {
      this.older = true;
      this.from = this.items[0]?.seq ?? 1;
    }
  }

  // ---- live ------------------------------------------------------------------------------------------------------------

  /** Live entries passed by that will not come: the stretch ends here until the rest is loaded. */
  gap(): void {
    this.missed = true;
    if (!this.ready) return;
    this.newer = true;
    this.changed();
  }

  /** Takes live entries, in order. */
  apply(entries: readonly Entry[]): void {
    if (this.inFlight > 0) {
      this.meanwhile.push(...entries);
      if (this.meanwhile.length > MEANWHILE) {
        this.meanwhile = this.meanwhile.slice(-MEANWHILE);
        this.missed = true;
      }
    }
    if (!this.ready) return;
    for (const entry of entries) this.one(entry);
    this.bound("older");
    this.changed();
  }

  /** What came live while a page was under way: it may go on behind the page, and change what the page brought. */
  private replay(page: readonly Entry[]): void {
    if (this.missed) this.newer = true;
    const brought = new Set(page.map((entry) => entry.seq));
    for (const entry of this.meanwhile) {
      if ("target" in entry) {
        if (brought.has(entry.target)) this.one(entry);
        continue;
      }
      if (!this.newer && entry.seq > this.to) brought.add(entry.seq);
      else if (entry.kind === "message" && entry.reply_to && brought.has(this.rootOf(entry.reply_to))) this.readAgain(this.rootOf(entry.reply_to));
      this.one(entry);
    }
  }

  private one(entry: Entry): void {
    switch (entry.kind) {
      case "message":
      case "room":
        if (!this.newer && entry.seq > this.to) {
          const item = itemOf(entry);
          this.push(item);
          this.replied(item);
        }
        break;
      case "edit":
        if (this.at.get(entry.target)?.deleted) break;
        this.set(entry.target, {
          edited: entry.at,
          ...(entry.text !== undefined && { text: entry.text }),
          mentions: entry.mentions ?? [],
          mentionsRoom: entry.mentions_room ?? false,
        });
        break;
      case "delete":
        this.set(entry.target, { deleted: true, text: "", data: undefined, reactions: [], mentions: [], mentionsRoom: false });
        break;
      case "reaction":
        this.reacted(entry.target, entry.emoji, entry.user === this.me, entry.active);
        break;
    }
    if (!this.newer) this.to = Math.max(this.to, entry.seq);
  }

  private set(seq: number, change: Partial<Item>): void {
    const item = this.at.get(seq);
    if (!item) return;
    const next = { ...item, ...change };
    this.at.set(seq, next);
    this.items[this.indexOf(seq)] = next;
  }

  private reacted(seq: number, emoji: string, mine: boolean, active: boolean): void {
    const item = this.at.get(seq);
    if (!item || item.deleted) return;
    if (emoji === "" || this.isAmbiguous()) this.readAgain(seq);
    const old = item.reactions.find((one) => one.emoji === emoji);
    if (mine && (old?.mine ?? false) === active) return;
    const count = (old?.count ?? 0) + (active ? 1 : -1);
    const next = { emoji, count, mine: mine ? active : (old?.mine ?? false) };
    const others = item.reactions.filter((one) => one !== old);
    if (count <= 0) this.set(seq, { reactions: others });
    else if (old) this.set(seq, { reactions: item.reactions.map((one) => (one === old ? next : one)) });
    else this.set(seq, { reactions: [...item.reactions, next] });
  }

  /** The root of a message's thread, as far as it is loaded. */
  rootOf(seq: number): number {
    let [at, item] = [seq, this.at.get(seq)];
    for (let steps = 0; item?.replyTo && steps < 100_000; steps++) [at, item] = [item.replyTo, this.at.get(item.replyTo)];
    return at;
  }

  private replied(item: Item): void {
    if (!item.replyTo) return;
    const root = this.rootOf(item.replyTo);
    const first = this.at.get(root);
    if (!first) return;
    if (this.isAmbiguous()) this.readAgain(root);
    this.set(root, { replies: first.replies + 1 });
  }

  private isAmbiguous(): boolean {
    return this.inFlight > 0 || Date.now() - this.pageCame < AMBIGUOUS_MS;
  }

  private readAgain(seq: number): void {
    this.stale.add(seq);
    this.refreshing ??= setTimeout(() => void this.refresh(), REFRESH_AFTER_MS);
  }

  private async refresh(): Promise<void> {
    const wanted = [...this.stale].slice(-REFRESHED);
    this.stale.clear();
    this.refreshing = undefined;
    for (const seq of wanted) {
      try {
        const page = await api.get<History>(`rooms/${this.room}/messages`, { after: seq - 1, limit: 1 });
        const entry = page.items[0];
        if (entry?.kind !== "message" || entry.seq !== seq) continue;
        this.set(seq, { reactions: entry.reactions ?? [], replies: entry.replies ?? 0 });
      } catch {
        // What is shown stays; the next page of history says it right.
        return;
      }
    }
    this.changed();
  }
}

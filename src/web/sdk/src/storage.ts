// Where messages wait that are not sent yet. In the browser IndexedDB, so that they outlive the page; else whatever is given.

import type { Json } from "./frames.js";

export interface StoredMessage {
  /** Unique: user, room and message id. */
  key: string;
  user: string;
  /** Which client (a tab, a process) it is of. */
  owner: string;
  /** The order in which its owner sent. */
  n: number;
  room: string;
  id: string;
  text: string;
  reply_to?: number;
  data?: Json;
  /** When it was sent, by the clock of the wall, for people. */
  at: number;
  failed?: { code: string; message: string };
}

/** Each call may fail: messages then wait in memory only. Calls are made one after the other. */
export interface OutboxStorage {
  load(user: string): Promise<StoredMessage[]>;
  put(message: StoredMessage): Promise<void>;
  remove(key: string): Promise<void>;
  close?(): void;
}

/** Keeps them in memory: they outlive the client, not the process. */
export class MemoryStorage implements OutboxStorage {
  readonly #messages = new Map<string, StoredMessage>();
  async load(user: string): Promise<StoredMessage[]> {
    return [...this.#messages.values()].filter((message) => message.user === user);
  }
  async put(message: StoredMessage): Promise<void> {
    this.#messages.set(message.key, { ...message });
  }
  async remove(key: string): Promise<void> {
    this.#messages.delete(key);
  }
}

const STORE = "outbox";

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** The browser's own store; private windows and full disks may refuse it, with an error. */
export class IndexedDbStorage implements OutboxStorage {
  #db: Promise<IDBDatabase> | undefined;
  readonly #name: string;

  constructor(name = "roundtable-client") {
    this.#name = name;
  }

  #open(): Promise<IDBDatabase> {
    return (this.#db ??= new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(this.#name, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(STORE, { keyPath: "key" }).createIndex("user", "user");
      };
      request.onsuccess = () => {
        // Another tab with a newer version, or the person who clears the site's data, must not wait for this one.
        request.result.onversionchange = () => this.close();
        resolve(request.result);
      };
      request.onblocked = request.onerror = () => reject(request.error ?? new Error("IndexedDB is blocked"));
    }).catch((error) => {
      this.#db = undefined;
      throw error;
    }));
  }
  async #store(mode: IDBTransactionMode): Promise<IDBObjectStore> {
    return (await this.#open()).transaction(STORE, mode).objectStore(STORE);
  }
  async load(user: string): Promise<StoredMessage[]> {
    return done<StoredMessage[]>((await this.#store("readonly")).index("user").getAll(user));
  }
  async put(message: StoredMessage): Promise<void> {
    await done((await this.#store("readwrite")).put(message));
  }
  async remove(key: string): Promise<void> {
    await done((await this.#store("readwrite")).delete(key));
  }
  close(): void {
    this.#db?.then((db) => db.close(), () => {});
    this.#db = undefined;
  }
}

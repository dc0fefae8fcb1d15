// The HTTP API, thin and typed, as far as a chat needs it every day; `call` is for all the rest. Each call is one request, and fails with a RoundtableError.

import { fromServer, RoundtableError } from "./errors.js";
import type { Entry, Message, Role, User } from "./frames.js";
import { retryAfter } from "./transport.js";

export interface ApiOptions {
  url: string | (() => string);
  /** Without one the session cookie counts. */
  token?: string | (() => string | undefined);
  fetch?: typeof fetch;
}

export interface Page<T> { items: T[]; next: string | null }
export interface PageOptions { limit?: number; cursor?: string }
export type RoomKind = "public" | "private" | "direct";
export interface RoomInfo {
  id: string;
  kind: RoomKind;
  name?: string | null;
  topic?: string | null;
  slow_mode_s: number;
  archived: boolean;
  ttl_s: number;
  edit_history: boolean;
  head: number;
  role?: Role | null;
  online?: number | null;
}
export interface MyRoom extends RoomInfo { role: Role; read_seq: number; unread: number; mentions: number }
export interface Me {
  user: User;
  csrf_token: string;
  by: "login" | "token" | "jwt";
  scopes: string[];
  room?: string | null;
  expires_at?: string | null;
}
export interface MessagePage { room: string; items: Entry[]; more: boolean; next?: string | null; previous?: string | null }
export interface Thread { room: string; root: number; items: Message[]; next?: string | null }
export interface Invitation { id: string; made_by: string; made_at: string; expires_at: string; uses_left?: number | null }
export interface Pin { message: Message; pinned_by: string; pinned_at: string }
export interface Found { room: string; seq: number; user: string; at: string; text: string; snippet: string; highlights: Array<[number, number]>; score: number }
export interface Attachment { id: string; room: string; user: string; message: string; name?: string | null; type: string; bytes: number; sha256: string; at: string; url: string; url_expires_at: string }
export interface RoomSettings { name?: string; topic?: string; slow_mode_s?: number; archived?: boolean; ttl_s?: number; edit_history?: boolean }

type Query = Record<string, string | number | boolean | undefined>;
type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
interface Call { query?: Query; body?: unknown; signal?: AbortSignal }

// A path whose parts are safe, whatever they are.
const at = (text: TemplateStringsArray, ...parts: Array<string | number>) => String.raw({ raw: text }, ...parts.map(encodeURIComponent));

export class Api {
  #csrf: string | undefined;
  readonly #fetcher: typeof fetch;

  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
    this.#fetcher = options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  get #token(): string | undefined {
    const { token } = this.#options;
    return typeof token === "function" ? token() : token;
  }

  /** The whole address of a path, such as that of an attachment's `url`. */
  address(path: string, query: Query = {}): string {
    const { url } = this.#options;
    const address = new URL(path, typeof url === "function" ? url() : url);
    for (const [key, value] of Object.entries(query)) if (value !== undefined) address.searchParams.set(key, String(value));
    return address.href;
  }

  async #headers(method: Method): Promise<Record<string, string>> {
    const token = this.#token;
    if (token !== undefined) return { authorization: `Bearer ${token}` };
    if (method === "GET") return {};
    // Without a login there is no token, and what needs none works all the same.
    this.#csrf ??= await this.me().then((me) => me.csrf_token, () => undefined);
    return this.#csrf === undefined ? {} : { "x-csrf-token": this.#csrf };
  }

  async #once(method: Method, path: string, { query, body, signal }: Call, open: boolean): Promise<Response> {
    const raw = typeof Blob !== "undefined" && body instanceof Blob;
    const headers = open ? {} : await this.#headers(method);
    if (body !== undefined && !raw) headers["content-type"] = "application/json";
    try {
      return await this.#fetcher(this.address(`/api/v1/${path}`, query), {
        method,
        headers,
        credentials: this.#token === undefined || open ? "include" : "omit",
        ...(body !== undefined && { body: raw ? body : JSON.stringify(body) }),
        ...(signal && { signal }),
      });
    } catch (error) {
      if (signal?.aborted) throw new RoundtableError("cancelled", "taken back");
      throw new RoundtableError("network", `the server could not be reached: ${error}`);
    }
  }

  /** Any call of `/api/v1`: for what has no method here. */
  async call<T>(method: Method, path: string, call: Call = {}): Promise<T> {
    let answer = await this.#once(method, path, call, false);
    if (answer.status === 403 && this.#csrf !== undefined && method !== "GET") {
      // Another login of this browser has another token.
      const before = this.#csrf;
      this.#csrf = undefined;
      await this.#headers(method);
      if (this.#csrf !== before) answer = await this.#once(method, path, call, false);
    }
    return this.#result<T>(answer);
  }

  #get<T>(path: string, query: object = {}): Promise<T> {
    return this.call<T>("GET", path, { query: query as Query });
  }
  #do<T>(method: Method, path: string, body?: unknown): Promise<T> {
    return this.call<T>(method, path, { body });
  }

  async #open<T>(path: string, body?: unknown): Promise<T> {
    this.#csrf = undefined;
    return this.#result<T>(await this.#once(body === undefined ? "GET" : "POST", path, { body }, true));
  }

  async #result<T>(answer: Response): Promise<T> {
    if (answer.ok) return (answer.status === 204 ? undefined : await answer.json().catch(() => undefined)) as T;
    throw problem(answer.status, await answer.text().catch(() => ""), answer.headers.get("retry-after"));
  }

  // ——— The account
  /** How one can log in; needs no credentials. */
  auth = () => this.#open<{ password: boolean; oidc: { label: string; login: string } | null }>("auth");
  register = (user: string, password: string, name?: string) => this.#open<{ token: string; user: User }>("register", { user, password, name });
  login = (user: string, password: string) => this.#open<{ token: string; user: User }>("login", { user, password });
  async logout(): Promise<void> {
    await this.call("POST", "logout");
    this.#csrf = undefined;
  }
  async me(): Promise<Me> {
    const me = await this.#get<Me>("me");
    this.#csrf = me.csrf_token;
    return me;
  }
  rename = (name: string) => this.#do<{ user: User }>("PATCH", "me", { name });

  // ——— Rooms
  myRooms = (page?: PageOptions) => this.#get<Page<MyRoom>>("me/rooms", page);
  rooms = (page?: PageOptions) => this.#get<Page<RoomInfo>>("rooms", page);
  room = (room: string) => this.#get<RoomInfo>(at`rooms/${room}`);
  makeRoom = (room: { id: string; name?: string; kind: "public" | "private"; topic?: string; ttl_s?: number; edit_history?: boolean }) =>
    this.#do<RoomInfo>("POST", "rooms", room);
  changeRoom = (room: string, settings: RoomSettings) => this.#do<RoomInfo & { seq?: number | null }>("PATCH", at`rooms/${room}`, settings);
  deleteRoom = (room: string) => this.#do<void>("DELETE", at`rooms/${room}`);
  join = (room: string) => this.#do<{ role: Role | null }>("POST", at`rooms/${room}/join`);
  leave = (room: string) => this.#do<void>("POST", at`rooms/${room}/leave`);
  /** The room of the two. */
  direct = (user: string) => this.#do<RoomInfo>("POST", "direct", { user });
  members = (room: string, page?: PageOptions) => this.#get<Page<{ user: string; role: Role }>>(at`rooms/${room}/members`, page);
  setRole = (room: string, user: string, role: Role) =>
    this.#do<{ user: string; role: Role }>("PUT", at`rooms/${room}/members/${user}`, { role });
  kick = (room: string, user: string) => this.#do<void>("DELETE", at`rooms/${room}/members/${user}`);
  ban = (room: string, user: string) => this.#do<void>("PUT", at`rooms/${room}/bans/${user}`);
  unban = (room: string, user: string) => this.#do<void>("DELETE", at`rooms/${room}/bans/${user}`);
  invite = (room: string, options: { expires_in_s?: number; uses?: number } = {}) =>
    this.#do<Invitation & { room: string; token: string }>("POST", at`rooms/${room}/invitations`, options);
  acceptInvitation = (token: string) => this.#do<RoomInfo>("POST", at`invitations/${token}/accept`);

  // ——— Messages
  messages = (room: string, options?: { before?: number; after?: number; around?: number; at?: string } & PageOptions) =>
    this.#get<MessagePage>(at`rooms/${room}/messages`, options);
  message = (room: string, seq: number) => this.#get<Message & { room: string; link: string }>(at`rooms/${room}/messages/${seq}`);
  thread = (room: string, seq: number, options?: { after?: number } & PageOptions) =>
    this.#get<Thread>(at`rooms/${room}/messages/${seq}/thread`, options);
  /** As `room.read`; durable when it is answered. */
  markRead = (room: string, seq: number) => this.#do<void>("PUT", at`rooms/${room}/read`, { seq });
  pins = (room: string, page?: PageOptions) => this.#get<Page<Pin>>(at`rooms/${room}/pins`, page);
  pin = (room: string, seq: number) => this.#do<void>("PUT", at`rooms/${room}/pins/${seq}`);
  unpin = (room: string, seq: number) => this.#do<void>("DELETE", at`rooms/${room}/pins/${seq}`);
  search = (q: string, options?: { room?: string; from?: string } & PageOptions) => this.#get<Page<Found>>("search", { q, ...options });

  // ——— Moderation
  report = (room: string, seq: number, reason: string) =>
    this.#do<{ report: number; room: string; seq: number; duplicate: boolean }>("POST", at`rooms/${room}/messages/${seq}/reports`, { reason });

  // ——— Files
  attachments = (room: string, ids: string[]) => this.#get<{ items: Attachment[] }>(at`rooms/${room}/attachments`, { ids: ids.join(",") });
  /**
   * Uploads a file of the message that will have the id `message`; then send that one with `data: { attachments: [id] }`.
   * `id` names the upload, so that repeating it is harmless.
   */
  upload(room: string, message: string, file: Blob, options: { id?: string; name?: string; signal?: AbortSignal } = {}): Promise<Attachment> {
    const { id, signal, name = (file as Partial<File>).name } = options;
    return this.call<Attachment>("POST", at`rooms/${room}/attachments`, { query: { message, id, name }, body: file, signal });
  }
}

const BY_STATUS: Record<number, string> = {
  401: "unauthenticated", 403: "forbidden", 404: "not_found", 409: "conflict", 429: "rate_limited",
};

// A proxy in between does not speak in problems; then the status has to do.
function problem(status: number, text: string, retry: string | null): RoundtableError {
  const retry_after_ms = retryAfter(retry).retryAfterMs ?? null;
  let told: Record<string, unknown> = {};
  try {
    told = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // No problem document.
  }
  const code = BY_STATUS[status] ?? (status < 500 ? "bad_request" : "unavailable");
  return fromServer({ code, message: `HTTP ${status}`, retryable: status === 429 || status > 500, retry_after_ms, ...told }, status);
}

// Calls of the HTTP API. Every failure is an `ApiError` with one of the protocol's codes, or `offline`.
import type { Me } from "./types.ts";

export type Code =
  | "offline"
  | "bad_request"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "rate_limited"
  | "overloaded"
  | "unavailable"
  | "internal";

export class ApiError extends Error {
  constructor(
    readonly code: Code,
    readonly detail: string,
    readonly status = 0,
    readonly retryAfterMs = 0,
  ) {
    super(detail);
  }
}

/** Nothing of ours takes longer; an answer that has not come by then is one that never comes. */
const TIMEOUT_MS = 30_000;
const CODES = new Set<string>([
  "bad_request", "unauthenticated", "forbidden", "not_found", "conflict", "rate_limited", "overloaded", "unavailable", "internal",
]);

let csrf = "";
let onSignedOut: () => void = () => {};

export function useCredentials(me: Me | null): void {
  csrf = me?.csrf_token ?? "";
}

/** Called whenever the server says that nobody is signed in. */
export function whenSignedOut(act: () => void): void {
  onSignedOut = act;
}

type Query = Record<string, string | number | boolean | undefined>;

export function address(path: string, query: Query = {}): string {
  const given = Object.entries(query).filter((pair): pair is [string, string | number | boolean] => pair[1] !== undefined);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `/api/v1/${path}${text && `?${text}`}`;
}

/** What a refusal's body says, whatever it is. */
export function problem(status: number, text: string): ApiError {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && "code" in body && typeof body.code === "string") {
      const code = CODES.has(body.code) ? (body.code as Code) : "internal";
      const detail = "detail" in body && typeof body.detail === "string" ? body.detail : "";
      const wait = "retry_after_ms" in body && typeof body.retry_after_ms === "number" ? body.retry_after_ms : 0;
      return new ApiError(code, detail, status, wait);
    }
  } catch {
    // Not from the server itself: a proxy before it, most likely.
  }
  return new ApiError(status === 413 ? "bad_request" : status >= 500 ? "unavailable" : "internal", "", status);
}

async function call<T>(method: string, path: string, query: Query = {}, body?: unknown): Promise<T> {
  const headers: Record<string, string> = {};
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  let text: string;
  try {
    response = await fetch(address(path, query), {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch {
    throw new ApiError("offline", "");
  }
  if (!response.ok) {
    const error = problem(response.status, text);
    if (error.code === "unauthenticated" && path !== "login" && path !== "me/password") onSignedOut();
    throw error;
  }
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

export const get = <T>(path: string, query?: Query): Promise<T> => call("GET", path, query);
export const post = <T = void>(path: string, body?: unknown): Promise<T> => call("POST", path, {}, body);
export const put = <T = void>(path: string, body?: unknown): Promise<T> => call("PUT", path, {}, body);
export const patch = <T = void>(path: string, body?: unknown): Promise<T> => call("PATCH", path, {}, body);
export const del = <T = void>(path: string): Promise<T> => call("DELETE", path);

/** All pages of a list, up to a bound. */
export async function all<T>(path: string, query: Query = {}, most = 5_000): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const page = await get<{ items: T[]; next: string | null }>(path, { ...query, limit: 200, cursor });
    items.push(...page.items);
    cursor = page.next ?? undefined;
  } while (cursor && items.length < most);
  return items;
}

export interface Upload {
  done: Promise<{ id: string }>;
  abort(): void;
}

/** Uploads a file; `fetch` can't say how far it is. */
export function upload(room: string, message: string, id: string, file: File, progress: (part: number) => void): Upload {
  const request = new XMLHttpRequest();
  const done = new Promise<{ id: string }>((resolve, reject) => {
    request.upload.onprogress = (event) => progress(event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = () => {
      if (request.status === 200 || request.status === 201) {
        resolve(JSON.parse(request.responseText) as { id: string });
        return;
      }
      const error = problem(request.status, request.responseText);
      if (error.code === "unauthenticated") onSignedOut();
      reject(error);
    };
    request.onerror = () => reject(new ApiError("offline", ""));
    request.onabort = () => reject(new ApiError("offline", "aborted"));
  });
  request.open("POST", address(`rooms/${encodeURIComponent(room)}/attachments`, { message, id, name: file.name }));
  request.setRequestHeader("X-CSRF-Token", csrf);
  // The server tells the type by the content; a browser's guess from the name would only be in its way.
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(file);
  return { done, abort: () => request.abort() };
}

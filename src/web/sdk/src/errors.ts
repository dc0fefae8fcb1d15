// Every failure that an application can meet, with what to do about it.

/** The server's codes, the same over WebSocket and HTTP. */
export type ServerCode =
  | "bad_request" | "unauthenticated" | "forbidden" | "not_found" | "conflict"
  | "rate_limited" | "overloaded" | "unavailable" | "internal";

/** What the client itself says. */
export type ClientCode =
  | "network" // the server could not be reached, or the connection ended
  | "closed" // the client was closed
  | "cancelled" // the application took the request back
  | "timeout" // no answer in time
  | "outbox_full" // too many messages, or too much text, wait to be sent
  | "queue_full" // too many requests wait to be sent
  | "protocol" // close 40xx: the server does not want this client back
  | "revoked" // close 4003: banned from the server, or the login was ended
  | "too_many_connections" // close 41xx
  | "different_user"; // the credentials are of somebody else than `options.user`

export type ErrorCode = ServerCode | ClientCode;

export interface ErrorDetail {
  /** The same request may work later. */
  retryable?: boolean;
  retryAfterMs?: number;
  /** The HTTP status, where there was one. */
  status?: number;
  /** The WebSocket's close code, where the connection ended. */
  closeCode?: number;
}

const UNKNOWN: string[] = ["unavailable", "overloaded", "internal", "network", "timeout", "closed"];
// Of the client's own codes; the server says it itself.
const RETRYABLE: string[] = ["network", "timeout", "outbox_full", "queue_full", "too_many_connections"];

export class RoundtableError extends Error {
  override readonly name = "RoundtableError";
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly status: number | undefined;
  readonly closeCode: number | undefined;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message);
    this.code = code;
    this.retryable = detail.retryable ?? RETRYABLE.includes(code);
    this.retryAfterMs = detail.retryAfterMs;
    this.status = detail.status;
    this.closeCode = detail.closeCode;
  }

  /** Whether the request may have taken effect all the same: only repeating it (a message with the same id) can tell. */
  get unknown(): boolean {
    return UNKNOWN.includes(this.code);
  }
}

/** The error that an `error` frame or a problem of the HTTP API tells of. */
export function fromServer(
  told: { code?: string; message?: string; detail?: string; retryable?: boolean; retry_after_ms?: number | null },
  status?: number,
): RoundtableError {
  return new RoundtableError((told.code ?? "internal") as ErrorCode, told.detail ?? told.message ?? "no reason given", {
    retryable: told.retryable ?? false,
    ...(told.retry_after_ms != null && { retryAfterMs: told.retry_after_ms }),
    ...(status !== undefined && { status }),
  });
}

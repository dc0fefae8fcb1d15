// Says what went wrong and what to do next, in the reader's language.
import { type Catalogue } from "../i18n/en.ts";
import { t } from "../i18n/index.ts";

export interface Explained {
  what: string;
  next: string;
  /** The server's own words, where there are any. */
  detail: string;
}

/** What errors of the HTTP API and of the live connection have in common. */
interface Known {
  code: string;
  message: string;
  status: number | undefined;
  retryAfterMs: number | undefined;
}

const isKnown = (error: unknown): error is Known => error instanceof Error && "code" in error && typeof error.code === "string";

/** Codes of the live client that say in other words what an answer over HTTP says. */
const SAME: Record<string, string> = {
  network: "offline",
  timeout: "offline",
  closed: "offline",
  cancelled: "offline",
  outbox_full: "overloaded",
  queue_full: "overloaded",
  revoked: "unauthenticated",
  too_many_connections: "rate_limited",
};

type Errors = Catalogue["errors"];
type Coded = { [K in keyof Errors]: `${K}Next` extends keyof Errors ? K : never }[keyof Errors];
const CODES = new Set<string>([
  "offline", "bad_request", "unauthenticated", "forbidden", "not_found", "conflict", "rate_limited", "overloaded", "unavailable",
  "internal", "tooLarge", "quota",
] satisfies Coded[]);

export function explain(error: unknown): Explained {
  const e = t().errors;
  if (!isKnown(error)) return { what: e.internal, next: e.internalNext, detail: error instanceof Error ? error.message : "" };
  let code = SAME[error.code] ?? error.code;
  // The server says "your files take …" or how large a body may be; both are 413.
  if (error.status === 413) code = /your files/i.test(error.message) ? "quota" : "tooLarge";
  const known = (CODES.has(code) ? code : "internal") as Coded;
  const next = e[`${known}Next`];
  const seconds = Math.max(1, Math.ceil((error.retryAfterMs ?? 0) / 1000));
  const own = error.message && code !== "offline" ? e.says(error.message) : "";
  return { what: e[known], next: typeof next === "string" ? next : next(seconds), detail: own };
}

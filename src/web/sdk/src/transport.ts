// One connection, whatever carries it: frames go in and out until it ends, once.

import type { ClientFrame, ServerFrame } from "./frames.js";

export interface Ending {
  /** The close code; 1006 where the connection just broke. */
  code: number;
  reason: string;
  /** The HTTP status of a refusal before the connection was there. */
  status?: number;
  retryAfterMs?: number;
}

export interface Hooks {
  opened(): void;
  frame(frame: ServerFrame): void;
  /** The last thing that is called. */
  ended(ending: Ending): void;
}

export interface Transport {
  send(frame: ClientFrame): void;
  /** Bytes that wait to be taken by the network. */
  waiting(): number;
  /** Ends it; `ended` is not called any more. */
  close(): void;
}

export const BROKEN = 1006;

/** What `Retry-After` says, in milliseconds. */
export function retryAfter(value: string | null | undefined): { retryAfterMs?: number } {
  const seconds = Number(value ?? undefined);
  return seconds >= 0 ? { retryAfterMs: seconds * 1000 } : {};
}

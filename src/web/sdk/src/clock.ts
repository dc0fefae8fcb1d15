// Time that no clock change can turn back, and the notice that it jumped: the laptop slept, the process was frozen, the tab
// was throttled. Neither `performance.now()` nor `Date.now()` alone tells: the one may stand still in sleep, the other is set by people.

export const now = (): number => performance.now();

const TICK_MS = 1000;
const JUMP_MS = 4000;

/** Ticks once a second; `jumped`: more time went by than was waited for, so that nothing can be held against the server. */
export function watch(tick: (jumped: boolean) => void): () => void {
  let monotonic = now();
  let wall = Date.now();
  const timer = setInterval(() => {
    const passed = now() - monotonic;
    const passedOnWall = Date.now() - wall;
    monotonic += passed;
    wall += passedOnWall;
    tick(passed > TICK_MS + JUMP_MS || Math.abs(passedOnWall - passed) > JUMP_MS);
  }, TICK_MS);
  return () => clearInterval(timer);
}

export interface Pace { jitter_ms: number; backoff_max_ms: number }

/** How long to wait before attempt `attempt` (0 is the first): a random part of `jitter_ms`, then doubling. */
export function backoff(attempt: number, pace: Pace, random: () => number = Math.random): number {
  const most = Math.min(pace.jitter_ms * 2 ** Math.min(attempt, 30), pace.backoff_max_ms);
  // All of the first wait is random, so that everybody of a node that died does not come at once; later ones at least half.
  return attempt === 0 ? random() * most : most / 2 + (random() * most) / 2;
}

/** A random name of 128 bits. */
export function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

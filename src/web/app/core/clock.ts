// The time, for what is shown of it: ticks each second.
import { signal } from "@preact/signals";

export const clock = signal(Date.now());
setInterval(() => {
  clock.value = Date.now();
}, 1_000);

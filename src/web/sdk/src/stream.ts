// Where WebSockets are blocked: server-sent events by fetch for what comes, POSTs for what goes. The same frames as JSON.

import type { ClientFrame, ServerFrame } from "./frames.js";
import { backoff, now } from "./clock.js";
import { BROKEN, retryAfter, type Ending, type Hooks, type Transport } from "./transport.js";

const POST_FRAMES = 64;
const POST_CHARS = 60_000; // about one frame's bound: a post is never much larger than a frame may be
const POST_PATIENCE_MS = 15_000;
const REPEAT = { jitter_ms: 300, backoff_max_ms: 3000 };
// What an event may have at most: the server's frames are far smaller, and a proxy's page that never ends is no event.
const EVENT_CHARS = 8_000_000;

export function openStream(fetcher: typeof fetch, base: string, token: string | undefined, hooks: Hooks): Transport {
  const url = new URL("/api/v1/stream", base);
  const stop = new AbortController();
  const credentials: RequestCredentials = token === undefined ? "include" : "omit";
  let id: string | undefined;
  let over = false;
  let posts = 0;
  let posting = false;
  let queue: string[] = [];
  let queued = 0;

  const end = (ending: Ending) => {
    if (over) return;
    over = true;
    stop.abort();
    hooks.ended(ending);
  };
  const broken = (reason: string, more: Partial<Ending> = {}) => end({ code: BROKEN, reason, ...more });

  const event = (name: string, data: string) => {
    if (over) return;
    if (name === "open") {
      id = (JSON.parse(data) as { stream: string }).stream;
      hooks.opened();
    } else if (name === "close") end(JSON.parse(data) as Ending);
    else if (name === "message") hooks.frame(JSON.parse(data) as ServerFrame);
  };

  const read = async () => {
    const answer = await fetcher(url, {
      headers: { accept: "text/event-stream", ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      credentials,
      cache: "no-store",
      signal: stop.signal,
    });
    if (!answer.ok || !answer.headers.get("content-type")?.startsWith("text/event-stream") || !answer.body) {
      void answer.body?.cancel();
      return broken(`the stream was refused with HTTP ${answer.status}`, {
        status: answer.ok ? 502 : answer.status,
        ...retryAfter(answer.headers.get("retry-after")),
      });
    }
    const reader = answer.body.getReader();
    const utf8 = new TextDecoder();
    let rest = "";
    let name = "message";
    let data: string[] = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (over) return;
      if (done) return broken("the stream ended");
      const lines = (rest + utf8.decode(value, { stream: true })).split(/\r?\n/);
      rest = lines.pop() ?? "";
      if (rest.length > EVENT_CHARS) return broken("an event without an end");
      for (const line of lines) {
        if (line === "") {
          if (data.length) event(name, data.join("\n"));
          name = "message";
          data = [];
        } else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line.startsWith("event:")) name = line.slice(6).trim();
      }
    }
  };

  // One post under way at a time; what was not answered is repeated under the same number, which the server takes once.
  const post = async () => {
    posting = true;
    while (queue.length && !over) {
      let count = 1;
      let chars = queue[0]!.length;
      while (count < queue.length && count < POST_FRAMES && (chars += queue[count]!.length) <= POST_CHARS) count++;
      const frames = queue.slice(0, count);
      const body = `{"n":${++posts},"frames":[${frames.join(",")}]}`;
      const began = now();
      for (let attempt = 0; !over; attempt++) {
        let wait: number | undefined;
        try {
          const answer = await fetcher(url, {
            method: "POST",
            headers: { "content-type": "application/json", "x-roundtable-stream": id! },
            credentials,
            body,
            signal: AbortSignal.any?.([stop.signal, AbortSignal.timeout(POST_PATIENCE_MS)]) ?? stop.signal,
          });
          void answer.body?.cancel();
          if (answer.ok) break;
          if (answer.status !== 429 && answer.status < 500) return broken(`a post was refused with HTTP ${answer.status}`);
          wait = retryAfter(answer.headers.get("retry-after")).retryAfterMs;
        } catch {
          // Unknown whether it arrived: repeated below.
        }
        if (now() - began > POST_PATIENCE_MS) return broken("a post was not taken");
        await new Promise((resolve) => setTimeout(resolve, Math.max(wait ?? 0, backoff(attempt, REPEAT))));
      }
      queue.splice(0, count);
      for (const frame of frames) queued -= frame.length;
    }
    posting = false;
  };

  read().catch((error) => broken(`the stream broke: ${error}`));
  return {
    send(frame: ClientFrame) {
      const json = JSON.stringify(frame);
      queue.push(json);
      queued += json.length;
      if (!posting) void post();
    },
    waiting: () => queued,
    close() {
      over = true;
      queue = [];
      stop.abort();
    },
  };
}

// A connection by WebSocket, in either encoding.

import type { ServerFrame } from "./frames.js";
import { decode, encode } from "./msgpack.js";
import { BROKEN, type Ending, type Hooks, type Transport } from "./transport.js";

export type Encoding = "json" | "msgpack";

/** What of a WebSocket is used: the browser's, Node's, `ws`, or the one of `roundtable-client` for Node. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}
export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

export function openWebSocket(Class: WebSocketClass, base: string, encoding: Encoding, hooks: Hooks): Transport {
  const url = new URL("/ws", base);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new Class(url.href, [`roundtable.v1.${encoding}`]);
  socket.binaryType = "arraybuffer";
  let over = false;
  const end = (ending: Ending) => {
    if (over) return;
    over = true;
    hooks.ended(ending);
  };
  socket.onopen = () => {
    if (!over) hooks.opened();
  };
  socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => {
    if (over) return;
    let frame: ServerFrame;
    try {
      frame = (typeof data === "string" ? JSON.parse(data) : decode(new Uint8Array(data))) as ServerFrame;
    } catch (error) {
      socket.close();
      return end({ code: BROKEN, reason: `a frame that cannot be read: ${error}` });
    }
    hooks.frame(frame);
  };
  socket.onclose = (event: Ending) =>
    end({ code: event.code, reason: event.reason, status: event.status, retryAfterMs: event.retryAfterMs });
  // `close` follows, with the reason.
  socket.onerror = () => {};
  return {
    send: (frame) => socket.send(encoding === "json" ? JSON.stringify(frame) : (encode(frame) as Uint8Array<ArrayBuffer>)),
    waiting: () => socket.bufferedAmount,
    close() {
      over = true;
      socket.close(1000);
    },
  };
}

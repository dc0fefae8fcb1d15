// A WebSocket for Node before 22, which has none of its own: the client's half of RFC 6455, without extensions.

import { createHash, randomBytes } from "node:crypto";
import { request as http } from "node:http";
import { request as https } from "node:https";
import type { Socket } from "node:net";
import { retryAfter } from "./transport.js";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MESSAGE_BYTES = 16 << 20; // the server's frames are far smaller
const CLOSING_MS = 2000;

interface Closed { code: number; reason: string; status?: number; retryAfterMs?: number }

export class NodeSocket {
  binaryType = "arraybuffer";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  private socket: Socket | undefined;
  private readonly request;
  private rest: Buffer = Buffer.alloc(0);
  private parts: Buffer[] = [];
  private size = 0;
  private text = false;
  private over = false;
  private closing = false;

  constructor(url: string, protocols: string[]) {
    const address = new URL(url);
    address.protocol = address.protocol.replace("ws", "http");
    const key = randomBytes(16).toString("base64");
    this.request = (address.protocol === "https:" ? https : http)(address, {
      headers: {
        connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": key,
        "sec-websocket-protocol": protocols.join(", "),
      },
    });
    this.request.on("upgrade", (answer, socket, head) => {
      if (answer.headers["sec-websocket-accept"] !== createHash("sha1").update(key + GUID).digest("base64")) {
        socket.destroy();
        return this.end({ code: 1006, reason: "the upgrade was answered by something that is no WebSocket server" });
      }
      if (this.over) return void socket.destroy();
      this.socket = socket as Socket;
      this.socket.setNoDelay(true);
      socket.on("data", (bytes: Buffer) => this.take(bytes));
      socket.on("error", (error: Error) => this.end({ code: 1006, reason: error.message }));
      socket.on("close", () => this.end({ code: 1006, reason: "the connection ended" }));
      this.onopen?.({} as never);
      if (head.length) this.take(head);
    });
    this.request.on("response", (answer) => {
      answer.resume();
      this.end({ code: 1006, reason: `the upgrade was refused with HTTP ${answer.statusCode}`, status: answer.statusCode, ...retryAfter(answer.headers["retry-after"]) });
    });
    this.request.on("error", (error) => this.end({ code: 1006, reason: error.message }));
    this.request.end();
  }

  get bufferedAmount(): number {
    return this.socket?.writableLength ?? 0;
  }

  send(data: string | Uint8Array): void {
    if (typeof data === "string") this.write(1, Buffer.from(data));
    else this.write(2, Buffer.from(data));
  }

  close(code = 1000): void {
    if (this.over) return;
    if (!this.socket) {
      this.request.destroy();
      return this.end({ code: 1006, reason: "closed before it was open" });
    }
    if (this.closing) return;
    this.closing = true;
    const body = Buffer.alloc(2);
    body.writeUInt16BE(code);
    this.write(8, body);
    const { socket } = this;
    // A peer that is gone must not keep the process waiting.
    setTimeout(() => socket.destroy(), CLOSING_MS).unref();
  }

  private end(closed: Closed): void {
    if (this.over) return;
    this.over = true;
    this.onclose?.(closed as never);
  }

  private write(opcode: number, body: Buffer): void {
    if (!this.socket || this.over) return;
    const mask = randomBytes(4);
    const long = body.length < 126 ? 0 : body.length < 65536 ? 2 : 8;
    const frame = Buffer.alloc(2 + long + 4 + body.length);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (long === 0 ? body.length : long === 2 ? 126 : 127);
    if (long === 2) frame.writeUInt16BE(body.length, 2);
    else if (long === 8) frame.writeBigUInt64BE(BigInt(body.length), 2);
    mask.copy(frame, 2 + long);
    for (let at = 0; at < body.length; at++) frame[6 + long + at] = body[at]! ^ mask[at & 3]!;
    this.socket.write(frame);
  }

  private broken(reason: string): void {
    this.socket?.destroy();
    this.end({ code: 1006, reason });
  }

  private take(bytes: Buffer): void {
    this.rest = this.rest.length ? Buffer.concat([this.rest, bytes]) : bytes;
    while (!this.over && this.rest.length >= 2) {
      const [first, second] = [this.rest[0]!, this.rest[1]!];
      let length = second & 0x7f;
      const long = length === 126 ? 2 : length === 127 ? 8 : 0;
      if (this.rest.length < 2 + long) return;
      if (long === 2) length = this.rest.readUInt16BE(2);
      else if (long === 8) length = Number(this.rest.readBigUInt64BE(2));
      if (second & 0x80 || first & 0x70) return this.broken("a frame that breaks RFC 6455");
      if (length + this.size > MESSAGE_BYTES) return this.broken("a message that is too large");
      if (this.rest.length < 2 + long + length) return;
      const body = this.rest.subarray(2 + long, 2 + long + length);
      this.rest = this.rest.subarray(2 + long + length);
      this.frame(first & 0x0f, (first & 0x80) !== 0, body);
    }
  }

  private frame(opcode: number, last: boolean, body: Buffer): void {
    if (opcode === 9) return this.write(10, body);
    if (opcode === 10) return;
    if (opcode === 8) {
      const code = body.length >= 2 ? body.readUInt16BE(0) : 1005;
      if (!this.closing) this.write(8, body.subarray(0, 2));
      this.socket?.end();
      return this.end({ code, reason: body.subarray(2).toString() });
    }
    if (opcode === 1 || opcode === 2) this.text = opcode === 1;
    else if (opcode !== 0) return this.broken("a frame that breaks RFC 6455");
    this.parts.push(body);
    this.size += body.length;
    if (!last) return;
    const whole = Buffer.concat(this.parts);
    this.parts = [];
    this.size = 0;
    const data = this.text ? whole.toString() : whole.buffer.slice(whole.byteOffset, whole.byteOffset + whole.length);
    this.onmessage?.({ data } as never);
  }
}

// MessagePack (https://msgpack.org) as far as the protocol goes: nil, booleans, numbers, text, arrays, maps with text keys.

const text = new TextEncoder();
const MAX_DEPTH = 64; // a frame's own levels and the 32 of `data`, with room to spare

type Kind = "Uint" | "Int" | "Float";
// A DataView's accessor by its name: one line here for two dozen there.
const accessor = (verb: "get" | "set", kind: Kind, width: number) =>
  `${verb}${width === 8 && kind !== "Float" ? "Big" : ""}${kind}${width * 8}` as "getUint8";

export function encode(value: unknown): Uint8Array {
  let bytes = new Uint8Array(256);
  let view = new DataView(bytes.buffer);
  let at = 0;
  const room = (count: number) => {
    if (at + count <= bytes.length) return;
    const larger = new Uint8Array(Math.max(bytes.length * 2, at + count));
    larger.set(bytes);
    bytes = larger;
    view = new DataView(bytes.buffer);
  };
  const write = (first: number, kind: Kind = "Uint", width = 0, number = 0) => {
    room(9);
    bytes[at++] = first;
    if (!width) return;
    (view[accessor("set", kind, width)] as unknown as (at: number, value: number | bigint) => void)
      .call(view, at, width === 8 && kind !== "Float" ? BigInt(number) : number);
    at += width;
  };
  // A length in the smallest of the forms that the type has: `form` is that of 2^`least` bytes.
  const size = (count: number, fixed: number, fixedMax: number, form: number, least: number) => {
    if (count <= fixedMax) return write(fixed | count);
    let step = least;
    while (count >= 2 ** (8 << step)) step++;
    write(form + step - least, "Uint", 1 << step, count);
  };
  const number = (n: number) => {
    if (!Number.isSafeInteger(n) || Object.is(n, -0)) return write(0xcb, "Float", 8, n);
    if (n >= -0x20 && n < 0x80) return write(n & 0xff);
    let step = 0;
    while (n >= 0 ? n >= 2 ** (8 << step) : n < -(2 ** ((8 << step) - 1))) step++;
    write((n >= 0 ? 0xcc : 0xd0) + step, n >= 0 ? "Uint" : "Int", 1 << step, n);
  };
  const put = (v: unknown, depth: number): void => {
    if (depth > MAX_DEPTH) throw new RangeError("nested too deeply");
    // As JSON does it: what is not a number is null.
    if (v == null || (typeof v === "number" && !Number.isFinite(v))) write(0xc0);
    else if (typeof v === "boolean") write(v ? 0xc3 : 0xc2);
    else if (typeof v === "number") number(v);
    else if (typeof v === "string") {
      const encoded = text.encode(v);
      size(encoded.length, 0xa0, 31, 0xd9, 0);
      room(encoded.length);
      bytes.set(encoded, at);
      at += encoded.length;
    } else if (Array.isArray(v)) {
      size(v.length, 0x90, 15, 0xdc, 1);
      for (const item of v) put(item, depth + 1);
    } else if (typeof v === "object") {
      const fields = Object.entries(v).filter(([, field]) => field !== undefined);
      size(fields.length, 0x80, 15, 0xde, 1);
      for (const field of fields.flat()) put(field, depth + 1);
    } else throw new TypeError(`no form for a ${typeof v}`);
  };
  put(value, 0);
  return bytes.slice(0, at);
}

export function decode(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let at = 0;
  // Reading past the end throws a RangeError by itself, except for slices.
  const read = (kind: Kind, width: number): number => {
    at += width;
    return Number(view[accessor("get", kind, width)](at - width));
  };
  // Each item has a byte at least: a length that cannot be true must not make anybody allocate.
  const fits = (count: number) => {
    if (count > bytes.length - at) throw new RangeError("cut off");
    return count;
  };
  const string = (length: number) => utf8.decode(bytes.subarray(at, (at += fits(length))));
  const array = (length: number, depth: number) => {
    const items: unknown[] = [];
    for (let left = fits(length); left > 0; left--) items.push(take(depth));
    return items;
  };
  const map = (length: number, depth: number) => {
    const fields: Array<[string, unknown]> = [];
    for (let left = fits(length); left > 0; left--) {
      const key = take(depth);
      if (typeof key !== "string") throw new TypeError("a key is no text");
      fields.push([key, take(depth)]);
    }
    // Not by assignment: `__proto__` is a plain field, as JSON.parse has it.
    return Object.fromEntries(fields);
  };
  const take = (depth: number): unknown => {
    if (depth > MAX_DEPTH) throw new RangeError("nested too deeply");
    const first = read("Uint", 1);
    if (first < 0x80) return first;
    if (first < 0x90) return map(first & 0x0f, depth + 1);
    if (first < 0xa0) return array(first & 0x0f, depth + 1);
    if (first < 0xc0) return string(first & 0x1f);
    if (first >= 0xe0) return first - 0x100;
    if (first >= 0xde) return map(read("Uint", 2 << (first - 0xde)), depth + 1);
    if (first >= 0xdc) return array(read("Uint", 2 << (first - 0xdc)), depth + 1);
    if (first >= 0xd9) return string(read("Uint", 1 << (first - 0xd9)));
    if (first >= 0xd0 && first < 0xd4) return read("Int", 1 << (first - 0xd0));
    if (first >= 0xcc && first < 0xd0) return read("Uint", 1 << (first - 0xcc));
    if (first === 0xca || first === 0xcb) return read("Float", 4 << (first - 0xca));
    if (first === 0xc2 || first === 0xc3) return first === 0xc3;
    if (first === 0xc0) return null;
    throw new TypeError(`unknown type ${first}`);
  };
  const value = take(0);
  if (at !== bytes.length) throw new RangeError("more than one object");
  return value;
}

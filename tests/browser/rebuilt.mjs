// Builds the web client again and compares: what is committed in src/web/dist is what its sources give, byte by byte. Usage: node
// rebuilt.mjs FOLDER, where build.mjs wrote it anew.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

const [fresh, committed] = process.argv.slice(2);
const FIRST_LOAD_BYTES = 100 * 1024;
const remedy = "build it anew: npm run build in src/web/app, and commit src/web/dist";

assert.deepEqual(readdirSync(committed).sort(), readdirSync(fresh).sort(), remedy);
let first = 0;
const page = readFileSync(join(committed, "index.html"), "utf8");
for (const name of readdirSync(committed)) {
  const [was, is] = [join(committed, name), join(fresh, name)].map((path) => readFileSync(path));
  // What was packed by another version of zlib may differ; what comes out must not.
  const unpack = name.endsWith(".gz") ? gunzipSync : name.endsWith(".br") ? brotliDecompressSync : (bytes) => bytes;
  assert.ok(unpack(was).equals(unpack(is)), `${name} differs: ${remedy}`);
  if (/\.(gz|br)$/.test(name)) {
    assert.ok(unpack(was).equals(readFileSync(join(committed, name.slice(0, -3)))), `${name} is not ${name.slice(0, -3)}`);
  }
  const plain = name.slice(0, -3);
  if (name.endsWith(".gz") && (plain === "index.html" || page.includes(`/assets/${plain}`))) first += was.length;
}
assert.ok(first > 0 && first <= FIRST_LOAD_BYTES, `the first load has ${first} bytes, of ${FIRST_LOAD_BYTES} that it may have`);
console.log(`ok      rebuilt (first load ${(first / 1024).toFixed(1)} KiB gzipped)`);

// Builds the web client into src/web/dist, which is committed, so that a plain `cargo build` needs no Node.
//
// The same sources give the same bytes, whatever the machine: versions are locked, names are hashes of contents, and nothing
// of the surroundings (paths, times) goes in. `table.in` is what the server includes: each file with its type, its tag and its
// compressed forms.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "../dist"));
const types = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
};

const result = await build({
  entryPoints: { app: join(here, "main.tsx"), style: join(here, "style/index.css") },
  outdir: out,
  absWorkingDir: here,
  bundle: true,
  write: false,
  minify: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  legalComments: "none",
  nodePaths: [join(here, "node_modules")],
  metafile: true,
  logLevel: "warning",
});

const files = new Map();
for (const file of result.outputFiles) files.set(file.path.slice(out.length + 1), Buffer.from(file.contents));

const named = (start, end) => [...files.keys()].find((name) => name.startsWith(`${start}-`) && name.endsWith(end));
const [script, style] = [named("app", ".js"), named("style", ".css")];
// What the entry imports at once would otherwise be asked for only when the entry is there.
const entry = Object.entries(result.metafile.outputs).find(([path]) => path.endsWith(script));
const preloads = entry[1].imports.filter((one) => one.kind === "import-statement").map((one) => one.path.split("/").at(-1));
const page = readFileSync(join(here, "index.html"), "utf8")
  .replace("{style}", `/assets/${style}`)
  .replace("{script}", `/assets/${script}`)
  .replace("{preloads}\n", preloads.map((name) => `<link rel="modulepreload" href="/assets/${name}">\n`).join(""));
for (const name of ["icon.svg", "app.webmanifest"]) files.set(name, readFileSync(join(here, name)));
files.set("index.html", Buffer.from(page));

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const rows = [];
for (const [name, bytes] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
  const tag = createHash("sha256").update(bytes).digest("hex").slice(0, 20);
  const gzip = gzipSync(bytes, { level: 9 });
  const brotli = brotliCompressSync(bytes, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
  });
  writeFileSync(join(out, name), bytes);
  writeFileSync(join(out, `${name}.gz`), gzip);
  writeFileSync(join(out, `${name}.br`), brotli);
  rows.push(
    `    File { name: "${name}", kind: "${types[extname(name)]}", hashed: ${/-[A-Z0-9]{8}\./.test(name)}, tag: "${tag}",\n` +
      `        plain: include_bytes!("${name}"), gzip: include_bytes!("${name}.gz"), brotli: include_bytes!("${name}.br") },\n`,
  );
}
writeFileSync(join(out, "table.in"), `// Written by src/web/app/build.mjs.\n&[\n${rows.join("")}]\n`);

// What the browser loads before it can show anything.
const first = ["index.html", script, style, ...preloads].reduce(
  (sum, name) => sum + readFileSync(join(out, `${name}.gz`)).length,
  0,
);
console.log(`${readdirSync(out).length} files; first load ${(first / 1024).toFixed(1)} KiB gzipped`);

/**
 * Builds the package into `dist`, and what of it the Rust service serves into `../src/server`.
 *
 *   node build.mjs            builds
 *   node build.mjs --check    fails if what the service serves was not made from these sources
 *   node build.mjs --size     says what users download, and fails beyond the limits
 *   node build.mjs --documents    makes the script of the example `documents`, `../target/documents.js`
 *   node build.mjs --names 100    looks for so many seconds for short names that compress better; writes `names.json`
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

process.chdir(dirname(fileURLToPath(import.meta.url)));
if (process.argv[2] === "--documents") {
  await build({
    entryPoints: ["../examples/documents/page.js"],
    outfile: "../target/documents.js",
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    // The server serves its client; Yjs is installed here.
    external: ["./live?*"],
    nodePaths: ["node_modules"],
    logLevel: "warning",
  });
  process.exit(0);
}
const SERVED = { index: "../src/server/client.js", rooms: "../src/server/rooms.js" };
const mode = process.argv[2];

/**
 * Entries that are used together call the same things the same: by `names.json`, whose names compress well, and what is
 * not in there gets a free one.
 */
let names = JSON.parse(readFileSync("names.json", "utf8"));
const apart = ["index", "durable", "shared"].map((name) => `export * as ${name} from "./${name}.ts";`).join("");
({ mangleCache: names } = await build({
  stdin: { contents: apart, resolveDir: `${process.cwd()}/src`, loader: "ts" },
  bundle: true,
  format: "esm",
  mangleProps: /[^_]_$/,
  mangleCache: names,
  write: false,
}));

/** What calls nothing of the others has names of its own: it does not change when theirs do. */
const alone = { mangleCache: {} };

/** What stands beside the client takes its error, which users compare with, from there. */
const beside = (file) => ({
  name: "beside",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.?\/error\.js$/ }, () => ({ path: file, external: true }));
  },
});

/** One file of all that an entry needs. */
const bundle = async (entry, format = "esm", more = {}) => {
  const { outputFiles } = await build({
    mangleCache: structuredClone(names),
    ...entry,
    ...more,
    format,
    absWorkingDir: process.cwd(),
    bundle: true,
    target: "es2022",
    // Names with an underscore behind them are nobody's but ours.
    mangleProps: /[^_]_$/,
    legalComments: "none",
    minifySyntax: true,
    logLevel: "warning",
    write: false,
  });
  // What a script tag brings is a name of the page.
  const toplevel = format !== "iife";
  const compress = { passes: 6, toplevel, unsafe_arrows: true, unsafe_comps: true, inline: 1, unsafe: true, pure_getters: true, keep_fargs: false };
  const { code } = await minify(outputFiles[0].text, { ecma: 2020, module: format === "esm", compress, mangle: { toplevel } });
  return `${code}\n`;
};

/** What a page downloads that uses so much of the library. */
const used = (contents, more = {}) =>
  bundle({ stdin: { contents, resolveDir: `${process.cwd()}/src`, loader: "ts" } }, "esm", more);

const gzipped = (text) => gzipSync(text, { level: 9 }).length;
// In bytes: what it is now, a ratchet and not the aim: that is 8 KiB for all of it, and 5.
const cases = [
  ["everything, both encodings", 'export * from "./index.ts"', 12_850],
  ["whole client", 'export { connect, connectWith, websocket, sse, longPolling, page, renewal, roaming, memory, ThroughlineError } from "./index.ts"', 11_880],
  [
    "WebSocket only",
    'import { connectWith, websocket } from "./index.ts"; export const live = (url) => connectWith(url, [websocket])',
    9_420,
  ],
];
/** What stands beside the client, by itself. */
const aside = [["rooms", 'export * from "./rooms.ts"', 3_760]];

/**
 * Which of our properties has which short name changes what gzip finds. Swaps names as long as that helps, and at first,
 * now and then, where it does not: what only names change cannot break anything.
 */
const search = async (milliseconds) => {
  const keys = Object.keys(names);
  const tokens = Object.fromEntries(keys.map((key, at) => [key, `$${String.fromCharCode(97 + Math.floor(at / 26), 97 + (at % 26))}$`]));
  const places = new Map(Object.values(tokens).map((token, at) => [token, at]));
  const uses = keys.map(() => 0);
  const texts = [];
  for (const [, contents] of cases.slice(1)) {
    const text = await used(contents, { mangleCache: tokens });
    texts.push(text.split(/(\$[a-z]{2}\$)/).map((part) => places.get(part) ?? part));
  }
  for (const part of texts.flat()) if (typeof part === "number") uses[part]++;
  const size = (of) => texts.reduce((sum, parts) => sum + gzipped(parts.map((part) => (typeof part === "number" ? of[part] : part)).join("")), 0);

  // What others call so stays theirs.
  const sources = readdirSync("src", { recursive: true }).filter((name) => name.endsWith(".ts"));
  const taken = new Set(sources.flatMap((name) => readFileSync(`src/${name}`, "utf8").match(/\b[a-z]{2}\b/g) ?? []));
  const common = [..."abehnstriolcdfu"];
  const pairs = common.flatMap((first) => common.map((second) => first + second)).filter((pair) => !taken.has(pair));
  // The shortest for those that are used most; those that nobody uses come last.
  const order = keys.map((_, at) => at).sort((a, b) => uses[b] - uses[a]);
  const spare = [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ$_", ...pairs];
  const now = [];
  for (const at of order) now[at] = spare.shift();
  const live = order.filter((at) => uses[at]);
  const any = (list, bias = 1) => Math.floor(Math.random() ** bias * list.length);
  let current = size(now);
  let best = [size(keys.map((key) => names[key])), undefined];
  const begun = Date.now();
  for (let past; (past = (Date.now() - begun) / milliseconds) < 1; ) {
    const one = live[any(live, 2)];
    const other = live[any(live)];
    const from = Math.random() < 0.2 && now[one].length > 1 ? any(spare) : -1;
    const swap = () => {
      if (from < 0) [now[one], now[other]] = [now[other], now[one]];
      else [now[one], spare[from]] = [spare[from], now[one]];
    };
    swap();
    const next = size(now);
    if (next > current && Math.random() > Math.exp((current - next) / (3 * Math.max(0.85 - past, 0.001)))) swap();
    else current = next;
    if (current < best[0]) best = [current, [...now]];
  }
  if (best[1]) names = Object.fromEntries(keys.map((key, at) => [key, best[1][at]]));
};
if (mode === "--names") {
  await search(Number(process.argv[3] ?? 100) * 1000);
  const sorted = Object.fromEntries(Object.entries(names).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync("names.json", `${JSON.stringify(sorted, null, 2)}\n`);
  process.exit(0);
}

if (mode === "--size") {
  let beyond = false;
  for (const [name, contents, limit] of [...cases, ...aside]) {
    const text = await used(contents);
    const size = gzipped(text);
    beyond ||= size > limit;
    const verdict = size > limit ? `, MORE than the ${limit} it may be` : ` of ${limit}`;
    console.log(`${name}: ${text.length} bytes minified, ${size} gzipped (${(size / 1024).toFixed(2)} KiB)${verdict}`);
  }
  process.exit(beyond ? 1 : 0);
}

const index = { entryPoints: ["src/index.ts"] };
const served = { index: await bundle(index), rooms: await bundle({ entryPoints: ["src/rooms.ts"] }, "esm", alone) };
if (mode === "--check") {
  for (const [name, file] of Object.entries(SERVED)) {
    if (readFileSync(file, "utf8") !== served[name]) {
      console.error(`${file} was not made from js/src: run \`npm run build\` in js/ and commit it`);
      process.exit(1);
    }
    console.log(`${file} is made from js/src`);
  }
  process.exit(0);
}

rmSync("dist", { recursive: true, force: true });
for (const [name, file] of Object.entries(SERVED)) writeFileSync(file, served[name]);
mkdirSync("dist");
const react = { entryPoints: ["src/react.ts"], external: ["react"] };
writeFileSync("dist/throughline.js", served.index);
writeFileSync("dist/throughline.cjs", await bundle(index, "cjs"));
writeFileSync("dist/throughline.iife.js", await bundle(index, "iife", { globalName: "throughline" }));
for (const name of ["durable", "shared"]) {
  const entry = { entryPoints: [`src/${name}.ts`] };
  writeFileSync(`dist/${name}.js`, await bundle(entry, "esm", { plugins: [beside("./throughline.js")] }));
  writeFileSync(`dist/${name}.cjs`, await bundle(entry, "cjs", { plugins: [beside("./throughline.cjs")] }));
}
writeFileSync("dist/rooms.js", served.rooms);
writeFileSync("dist/rooms.cjs", await bundle({ entryPoints: ["src/rooms.ts"] }, "cjs", alone));
writeFileSync("dist/react.js", await bundle(react));
writeFileSync("dist/react.cjs", await bundle(react, "cjs"));
const tsc = ["node_modules/typescript/bin/tsc", "--noEmit", "false", "--declaration", "--emitDeclarationOnly"];
execFileSync(process.execPath, [...tsc, "--outDir", "dist/types", "--rootDir", "src"], { stdio: "inherit" });
// The same for those who `require`.
for (const name of readdirSync("dist/types", { recursive: true })) {
  if (!name.endsWith(".d.ts")) continue;
  const text = readFileSync(`dist/types/${name}`, "utf8");
  writeFileSync(`dist/types/${name.replace(/\.d\.ts$/, ".d.cts")}`, text.replace(/(from "\.[^"]*)\.js"/g, '$1.cjs"'));
}

/** Compiles the tests and runs them: `node tests/run.mjs [name …]`. */
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const wanted = process.argv.slice(2);
const out = `${here}.out`;
const tests = readdirSync(here).filter((name) => /\.test\.tsx?$/.test(name) && (!wanted.length || wanted.some((word) => name.includes(word))));
if (!tests.length) throw new Error("no such test");
rmSync(out, { recursive: true, force: true });
await build({
  entryPoints: tests.map((name) => here + name),
  outdir: out,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  packages: "external",
  sourcemap: "inline",
  jsx: "automatic",
});
const files = tests.map((name) => `${out}/${name.replace(/\.tsx?$/, ".mjs")}`);
const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-reporter=spec", ...files], { stdio: "inherit" });
process.exit(run.status ?? 1);

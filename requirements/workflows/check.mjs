// Schema, contexts and expressions of workflows and actions, as GitHub's own editor checks them.
//
//   node check.mjs FILE...     prints FILE:LINE: what is wrong; exit status 1 if there is anything

import { readFile } from "node:fs/promises";
import { register } from "node:module";

const json = `
  import { readFile } from "node:fs/promises";
  export async function load(url, context, next) {
    if (!url.endsWith(".json")) return next(url, context);
    return { format: "module", shortCircuit: true, source: "export default " + (await readFile(new URL(url), "utf8")) };
  }`;
register(`data:text/javascript,${encodeURIComponent(json)}`); // the package imports JSON as bundlers do, Node does not

const { validate } = await import("@actions/languageservice");
const { TextDocument } = await import("vscode-languageserver-textdocument");

let found = 0;
for (const file of process.argv.slice(2)) {
  const document = TextDocument.create(`file:///${file}`, "yaml", 0, await readFile(file, "utf8"));
  for (const { range, message } of await validate(document)) {
    found += 1;
    console.log(`${file}:${range.start.line + 1}: ${message}`);
  }
}
process.exit(found ? 1 : 0);

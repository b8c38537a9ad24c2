// Reads a JSON list of Mermaid diagrams on standard input and prints a list: an empty text for each that Mermaid accepts, else its error.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const load = (file) => import(pathToFileURL(`${process.argv[2]}/node_modules/${file}`));
// Mermaid cleans labels with it, which needs a browser; whether a diagram is valid does not depend on that.
const purify = (await load('dompurify/dist/purify.es.mjs')).default;
purify.addHook = () => {};
purify.sanitize = (text) => text;
const mermaid = (await load('mermaid/dist/mermaid.core.mjs')).default;

const errors = [];
for (const diagram of JSON.parse(readFileSync(0, 'utf8'))) {
  errors.push(await mermaid.parse(diagram).then(() => '', (error) => error.message));
}
console.log(JSON.stringify(errors));

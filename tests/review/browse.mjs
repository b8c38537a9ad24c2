// Opens pages in Chromium and does what a reader would. Reads JSON on standard input: a list of visits, each with `page` (a file),
// `width`, `scheme` ("light" or "dark") and `steps`: {"press": KEY}, {"type": TEXT}, {"select": [SELECTOR, VALUE]},
// {"click": SELECTOR}, or {"ask": EXPRESSION}. Prints for each visit the answers, the milliseconds until the page could be used, what
// it asked the network for, and its errors.
//
// Usage: node browse.mjs FOLDER [BROWSER]     FOLDER is where playwright-core is installed, and a browser when none is named
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, named] = process.argv.slice(2);
const { resolve } = createRequire(`${folder}/`);
const load = (name) => import(pathToFileURL(resolve(name)));
const { chromium } = (await load('playwright-core')).default;
// In one process, as the package itself would start it, a closed page takes the browser along.
const executablePath = named || await (await load('@sparticuz/chromium')).default.executablePath();
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--no-zygote'] });

const told = [];
for (const { page: file, width, scheme, steps } of JSON.parse(readFileSync(0, 'utf8'))) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme });
  const [errors, requests, answers] = [[], [], []];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => errors.push(message.text()));
  page.on('request', (request) => requests.push(request.url()));
  const began = Date.now();
  await page.goto(pathToFileURL(file).href);
  const milliseconds = Date.now() - began;
  for (const step of steps) {
    if (step.press) await page.keyboard.press(step.press);
    if (step.type) await page.keyboard.type(step.type);
    if (step.select) await page.selectOption(...step.select);
    if (step.click) await page.click(step.click);
    if (step.ask) answers.push(await page.evaluate(step.ask));
  }
  told.push({ answers, milliseconds, errors, requests });
  await page.close();
}
await browser.close();
console.log(JSON.stringify(told));

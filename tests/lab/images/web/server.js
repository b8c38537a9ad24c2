// A stand-in for the server.js of a Next.js standalone build: same variables, same signals, same paths.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const port = parseInt(process.env.PORT, 10) || 3000;
// Docker sets HOSTNAME to the container's name: unless it is overridden, only the container's own address listens.
const hostname = process.env.HOSTNAME || "0.0.0.0";
const keepAlive = parseInt(process.env.KEEP_ALIVE_TIMEOUT, 10);
const app = process.env.STANDIN_APP;
const next = path.join(__dirname, ".next");
const version = fs.readFileSync(path.join(next, "BUILD_ID"), "utf8").trim();
const chunks = path.join(next, "static", "chunks");
const behaviour = Object.fromEntries(
  (process.env.STANDIN_BEHAVIOUR || "").split(" ").filter(Boolean).map((word) => {
    const [name, value] = word.split("=");
    return [name, value === undefined ? true : Number(value)];
  }),
);
const started = Date.now();

function healthy() {
  const age = (Date.now() - started) / 1000;
  return !behaviour["never-healthy"] && !(age > behaviour["unhealthy-after"]);
}

function writeCache() {
  try {
    fs.mkdirSync(path.join(next, "cache", "fetch-cache"), { recursive: true });
    fs.writeFileSync(path.join(next, "cache", "fetch-cache", "home"), String(Date.now()));
    return null;
  } catch (error) {
    return error.code;
  }
}

function json(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

const escape = (text) => text.replace(/[<&]/g, (sign) => `&#${sign.charCodeAt(0)};`);

async function page(response) {
  const answer = await fetch(`${process.env.API_BASE_URL}/`, { signal: AbortSignal.timeout(10_000), cache: "no-store" });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`the API answered ${answer.status}`);
  const cacheError = writeCache();
  if (cacheError) console.error(`cannot write .next/cache: ${cacheError}`);
  const scripts = fs.readdirSync(chunks).map((name) => `<script src="/_next/static/chunks/${name}"></script>`);
  response.writeHead(200, { "content-type": "text/html; charset=utf-8", "cache-control": "private, no-store" });
  response.end(
    `<!doctype html><title>${app}</title>${scripts.join("")}` +
      `<main data-app="${app}" data-version="${version}"><pre id="api">${escape(text)}</pre></main>\n`,
  );
}

async function serve(request, response) {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/api/health") {
    return json(response, healthy() ? 200 : 503, { status: healthy() ? "ok" : "unhealthy", app, version });
  }
  if (url.pathname === "/api/info") {
    return json(response, 200, {
      app,
      version,
      hostname: require("node:os").hostname(),
      uid: process.getuid(),
      environment: Object.keys(process.env).sort(),
      headers: request.headers,
      cacheError: writeCache(),
    });
  }
  if (url.pathname.startsWith("/_next/static/")) {
    const file = path.join(next, "static", path.normalize(url.pathname.slice("/_next/static/".length)));
    if (!file.startsWith(path.join(next, "static") + path.sep) || !fs.existsSync(file) || !fs.statSync(file).isFile()) {
      return json(response, 404, { error: "not found" });
    }
    response.writeHead(200, {
      "content-type": "application/javascript; charset=UTF-8",
      "cache-control": "public, max-age=31536000, immutable",
    });
    return response.end(fs.readFileSync(file));
  }
  if (url.pathname === "/slow") {
    const seconds = Math.min(Number(url.searchParams.get("seconds")) || 0, 60);
    return setTimeout(() => json(response, 200, { app, version, seconds }), seconds * 1000);
  }
  if (url.pathname === "/") {
    if (behaviour["smoke-fails"]) return json(response, 500, { error: "smoke-fails" });
    return page(response);
  }
  return json(response, 404, { error: "not found" });
}

const server = http.createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) json(response, 500, { error: String(error.cause || error) });
  });
});
if (Number.isFinite(keepAlive) && keepAlive >= 0) server.keepAliveTimeout = keepAlive;

function stop(signal) {
  console.log(`${signal}: no new connections, waiting for pending requests`);
  server.close(() => process.exit(0));
}
process.on("SIGTERM", () => stop("SIGTERM"));
process.on("SIGINT", () => stop("SIGINT"));

setTimeout(
  () => server.listen(port, hostname, () => console.log(`${app} ${version} ready on http://${hostname}:${port}`)),
  (behaviour["start-seconds"] || 0) * 1000,
);

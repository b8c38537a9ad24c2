// Somebody who asks over HTTP/2 as browsers do, one request after the other, until SIGTERM. Prints what became of them.
//
// Usage: node browser.mjs ADDRESS PORT NAME
//
// A server that closes a connection says which requests it has not looked at (GOAWAY, RFC 9113 section 6.8): those are sent again,
// and counted as "again". "lost" is a request without an answer that the server had not given back; "failed" are answers that
// tell of an error, with their time.
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";

const [address, port, name] = process.argv.slice(2);
const told = { statuses: {}, again: 0, sessions: 0, lost: [], failed: [] };
let stopping = false;
process.on("SIGTERM", () => { stopping = true; });

function open() {
  told.sessions += 1;
  const createConnection = () =>
    tls.connect({ socket: net.connect(Number(port), address), servername: name, ALPNProtocols: ["h2"], rejectUnauthorized: false });
  const session = http2.connect(`https://${name}:${port}`, { createConnection });
  session.unprocessedAfter = Infinity;
  session.on("goaway", (code, last) => { session.unprocessedAfter = last; });
  session.on("error", (error) => { session.failure = error.message; });
  return session;
}

function ask(session) {
  return new Promise((resolve) => {
    let status;
    let ended = false;
    let text = "";
    const stream = session.request({ ":path": "/" });
    stream.on("response", (headers) => { status = headers[":status"]; });
    stream.on("data", (piece) => { text += piece; });
    stream.on("end", () => { ended = true; });
    stream.on("error", () => {});
    stream.on("close", () => {
      const givenBack = stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM || stream.id > session.unprocessedAfter;
      if (status >= 400 && ended) told.failed.push(`${new Date().toISOString().slice(11, 19)} ${status} ${text}`);
      if (status && ended) resolve(String(status));
      else if (givenBack && !session.failure) resolve("again");
      else resolve(`stream ${stream.id}, code ${stream.rstCode}, status ${status}, ${session.failure}`);
    });
  });
}

let session = open();
while (!stopping) {
  if (session.closed || session.destroyed || session.unprocessedAfter !== Infinity) {
    session.close();
    session = open();
  }
  // Where the session is over before anything was sent, nothing is lost but by an error of its own.
  const result = await ask(session).catch(() => session.failure || "again");
  if (result === "again") told.again += 1;
  else if (/^\d+$/.test(result)) told.statuses[result] = (told.statuses[result] || 0) + 1;
  else told.lost.push(result);
}
console.log(JSON.stringify(told));
process.exit(0);

// A real browser in front of Tidegate: what a page does over HTTP/2 reaches HTTP/1.1 and gRPC servers that know nothing of it.
// Started by scripts/proof browser; TIDEGATE and PROOF_DIR say where things are.

import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";

const DIR = process.env.PROOF_DIR;
const HERE = path.dirname(new URL(import.meta.url).pathname);
const require = createRequire(DIR + "/");
const { chromium } = require("playwright-core");
const { WebSocketServer } = require("ws");
const grpc = require("@grpc/grpc-js");
const esbuild = require("esbuild");

let passed = 0;
let failed = 0;

function check(what, holds, seen = "") {
  holds ? (passed += 1) : (failed += 1);
  console.log(`${holds ? "PASS" : "FAIL"} ${what}${holds ? "" : `: ${JSON.stringify(seen).slice(0, 600)}`}`);
}

const same = (what, expected, seen) => check(what, JSON.stringify(expected) === JSON.stringify(seen), { expected, seen });
const section = (title) => console.log(`\n== ${title}`);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((ready) => probe.once("listening", ready));
  const { port } = probe.address();
  await new Promise((closed) => probe.close(closed));
  return port;
}

// ---------------------------------------------------------------------------------------------- what stands behind

/** A web server: pages, echoes with their digest, a stream of ten pieces, events, and a WebSocket that echoes. */
async function webServer() {
  const server = http.createServer(async (request, response) => {
    const [where, query] = request.url.split("?");
    if (where === "/stream" || where === "/events") {
      response.writeHead(200, { "content-type": where === "/events" ? "text/event-stream" : "text/plain" });
      for (let at = 0; at < 10; at += 1) {
        response.write(where === "/events" ? `id: ${at}\ndata: event ${at}\n\n` : `piece ${at}\n`);
        await sleep(100);
      }
      return response.end();
    }
    if (where === "/bundle.js") {
      return response.writeHead(200, { "content-type": "text/javascript" }).end(fs.readFileSync(`${DIR}/bundle.js`));
    }
    const digest = createHash("sha256");
    let bytes = 0;
    for await (const piece of request) {
      digest.update(piece);
      bytes += piece.length;
    }
    if (where === "/echo") {
      response.writeHead(200, { "content-type": "application/json" });
      return response.end(JSON.stringify({ query, method: request.method, bytes, digest: digest.digest("hex"), version: request.httpVersion }));
    }
    response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>proof</title><script src=/bundle.js></script>");
  });
  new WebSocketServer({ server }).on("connection", (socket) => {
    socket.on("message", (message, isBinary) => socket.send(message, { binary: isBinary }));
  });
  server.listen(0, "127.0.0.1");
  await new Promise((ready) => server.once("listening", ready));
  return server;
}

/** A gRPC server of bytes: an echo, a status on demand, and a stream that counts. */
async function grpcServer() {
  const bytes = { requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
  const method = (name, responseStream) => ({ path: `/proof.S/${name}`, requestStream: false, responseStream, ...bytes });
  const server = new grpc.Server();
  server.addService(
    { Echo: method("Echo", false), Fail: method("Fail", false), Count: method("Count", true) },
    {
      Echo: (call, done) => done(null, call.request),
      Fail: (call, done) => done({ code: grpc.status.FAILED_PRECONDITION, details: "grüße %" }),
      Count: async (call) => {
        for (let at = 0; at < 5; at += 1) {
          call.write(Buffer.from(`${at}`));
          await sleep(100);
        }
        call.end();
      },
    },
  );
  return new Promise((ready, broken) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, port) => (error ? broken(error) : ready({ server, port })));
  });
}

class Gateway {
  async start(webPort, grpcPort) {
    [this.web, this.api, this.admin] = [await freePort(), await freePort(), await freePort()];
    this.page = `https://localhost:${this.web}`;
    fs.writeFileSync(
      `${DIR}/gateway.toml`,
      `workers = 1
driver = "${process.env.PROOF_DRIVER ?? "auto"}"
[admin]
address = "127.0.0.1:${this.admin}"
[listen.web]
address = "127.0.0.1:${this.web}"
protocol = "https"
tls = { certificate = "edge.pem", key = "edge.key" }
[listen.api]
address = "127.0.0.1:${this.api}"
protocol = "https"
tls = { certificate = "edge.pem", key = "edge.key" }
[service.web]
endpoints = ["127.0.0.1:${webPort}"]
[service.grpc]
endpoints = ["127.0.0.1:${grpcPort}"]
protocol = "h2"
[[route]]
name = "calls"
match.path = "/proof.S/**"
to = "grpc"
cors = { origins = ["${this.page}"] }
[[route]]
name = "closed"
match.path = "/closed.S/**"
to = "grpc"
cors = { origins = ["https://other.example"] }
[[route]]
name = "pages"
body_limit = "64MiB"
to = "web"
`,
    );
    const log = fs.openSync(`${DIR}/gateway.log`, "a");
    this.process = spawn(process.env.TIDEGATE, ["run", "-c", `${DIR}/gateway.toml`], { stdio: ["ignore", log, log] });
    this.ended = new Promise((end) => this.process.once("exit", end));
    for (let tries = 0; !(await this.get("/readyz").catch(() => "")); tries += 1) {
      if (tries === 100) throw new Error("the gateway does not start: see gateway.log");
      await sleep(50);
    }
  }

  async get(where) {
    const answer = await fetch(`http://127.0.0.1:${this.admin}${where}`);
    if (!answer.ok) throw new Error(`${where}: ${answer.status}`);
    return answer.text();
  }

  async metric(name, label = "") {
    const lines = (await this.get("/metrics")).split("\n").filter((line) => line.startsWith(name) && line.includes(label));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }
}

// ---------------------------------------------------------------------------------------------- what the page does

async function fetches(page, gateway) {
  section("a page");
  const hop = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  same("it came over HTTP/2", "h2", hop);
  // The browser may have opened another one beside it, in case.
  const before = await gateway.metric("tidegate_connections_total", "web");
  const made = await page.evaluate(async () => {
    const asked = Array.from({ length: 50 }, async (_, at) => (await fetch(`/echo?${at}`)).json());
    const answers = await Promise.all(asked);
    const hops = performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol);
    return { right: answers.filter((answer, at) => answer.query === `${at}`).length, hops: [...new Set(hops)], version: answers[0].version };
  });
  same("50 fetches at once, each with its own answer, over HTTP/2 to an HTTP/1.1 server", { right: 50, hops: ["h2"], version: "1.1" }, made);
  same("on the connection that was there", before, await gateway.metric("tidegate_connections_total", "web"));
}

async function uploads(page) {
  section("uploads");
  for (const bytes of [0, 1, 65_535, 65_536, 1 << 20, 20 << 20]) {
    const { answer, digest } = await page.evaluate(async (size) => {
      const body = new Uint8Array(size);
      for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(body.subarray(at, Math.min(at + 65_536, size)));
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
      const answer = await (await fetch("/echo", { method: "POST", body })).json();
      return { answer, digest: [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
    }, bytes);
    same(`${bytes} bytes arrive as they are`, [bytes, digest], [answer.bytes, answer.digest]);
  }
  const streamed = await page.evaluate(async () => {
    const pieces = new ReadableStream({
      async start(controller) {
        for (let at = 0; at < 20; at += 1) {
          controller.enqueue(new TextEncoder().encode(`piece ${at} `.repeat(1000)));
          await new Promise((wake) => setTimeout(wake, 20));
        }
        controller.close();
      },
    });
    return (await fetch("/echo", { method: "POST", body: pieces, duplex: "half" })).json();
  });
  const whole = Array.from({ length: 20 }, (_, at) => `piece ${at} `.repeat(1000)).join("");
  same("a stream of twenty pieces, without a length", createHash("sha256").update(whole).digest("hex"), streamed.digest);
}

async function streams(page) {
  section("streams");
  const { text, times } = await page.evaluate(async () => {
    const reader = (await fetch("/stream")).body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const times = [];
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      text += step.value;
      times.push(performance.now());
    }
    return { text, times };
  });
  same("ten pieces", Array.from({ length: 10 }, (_, at) => `piece ${at}\n`).join(""), text);
  check("each when it was sent", times.length >= 9 && times.at(-1) - times[0] > 700, times);
  const events = await page.evaluate(
    () =>
      new Promise((done) => {
        const seen = [];
        const source = new EventSource("/events");
        source.onmessage = (event) => {
          seen.push([event.lastEventId, event.data]);
          if (seen.length === 10) {
            source.close();
            done(seen);
          }
        };
        source.onerror = () => done(["error", ...seen]);
      }),
  );
  same("ten events with their ids", Array.from({ length: 10 }, (_, at) => [`${at}`, `event ${at}`]), events);
  const isGone = await page.evaluate(async () => {
    const control = new AbortController();
    const answer = await fetch("/stream", { signal: control.signal });
    await answer.body.getReader().read();
    control.abort();
    return (await (await fetch("/echo?after")).json()).query === "after";
  });
  check("one that the page gives up leaves the others alone", isGone);
}

async function webSocket(page, gateway) {
  section("a WebSocket");
  const before = await gateway.metric("tidegate_connections_total", "web");
  const echoed = await page.evaluate(
    () =>
      new Promise((done) => {
        const socket = new WebSocket(`wss://${location.host}/socket`);
        const [sent, seen] = [["hello", "grüße", "x".repeat(200_000)], []];
        socket.onopen = () => sent.forEach((message) => socket.send(message));
        socket.onerror = () => done("error");
        socket.onmessage = (message) => {
          seen.push(message.data);
          if (seen.length === sent.length) socket.close(1000, "bye");
        };
        socket.onclose = (end) => done({ exact: seen.every((message, at) => message === sent[at]), code: end.code, clean: end.wasClean });
      }),
  );
  same("messages come back, and it closes cleanly", { exact: true, code: 1000, clean: true }, echoed);
  same("on a stream of the connection that was there (RFC 8441)", before, await gateway.metric("tidegate_connections_total", "web"));
}

async function calls(page, gateway) {
  section("gRPC-Web from a page of another origin, with the grpc-web package");
  const base = `https://localhost:${gateway.api}`;
  for (const format of ["text", "binary"]) {
    const seen = await page.evaluate(([base, format]) => window.proof.echo(base, format, "grüße".repeat(1000)), [base, format]);
    same(`${format}: a message comes back`, { message: "grüße".repeat(1000) }, seen);
    const status = await page.evaluate(([base, format]) => window.proof.fail(base, format), [base, format]);
    same(`${format}: a status with its words`, { code: 9, words: "grüße %" }, status);
  }
  const counted = await page.evaluate((base) => window.proof.count(base), base);
  same("a stream of five messages, and its end", { messages: ["0", "1", "2", "3", "4"], code: 0 }, { messages: counted.messages, code: counted.code });
  check("each when it was sent", counted.times.at(-1) - counted.times[0] > 300, counted.times);
  const refused = await page.evaluate((base) => window.proof.closed(base), base);
  check("the browser keeps an answer from a page whose origin the route does not name", refused.code !== 0 && refused.code !== 9, refused);
}

async function reloads(page, gateway) {
  section("a reload and a drain under a page");
  const before = await gateway.metric("tidegate_config_generation");
  const right = page.evaluate(async () => {
    let right = 0;
    for (let at = 0; at < 300; at += 1) right += (await (await fetch(`/echo?${at}`)).json()).query === `${at}`;
    return right;
  });
  for (let at = 0; at < 3; at += 1) {
    gateway.process.kill("SIGHUP");
    await sleep(100);
  }
  same("300 fetches over three reloads", 300, await right);
  check("which were reloads", (await gateway.metric("tidegate_config_generation")) > before);
  const stream = page.evaluate(async () => {
    try {
      return await (await fetch("/stream")).text();
    } catch (error) {
      return String(error);
    }
  });
  await sleep(200);
  gateway.process.kill("SIGTERM");
  same("a stream under way is served to its end while the gateway drains", 10, (await stream).split("\n").length - 1);
  same("which then exits with", 0, await gateway.ended);
}

/** What the page is given: grpc-web's own client, with bytes for messages. */
const PAGE = `
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";
const [encode, decode] = [(text) => new TextEncoder().encode(text), (bytes) => new TextDecoder().decode(bytes)];
const method = (name, kind) => new MethodDescriptor(name, kind, Object, Object, encode, decode);
const unary = (base, format, path, text) => new Promise((done) => {
  new GrpcWebClientBase({ format }).rpcCall(base + path, text, {}, method(path, MethodType.UNARY), (error, message) =>
    done(error ? { code: error.code, words: error.message } : { message }));
});
window.proof = {
  echo: (base, format, text) => unary(base, format, "/proof.S/Echo", text),
  fail: (base, format) => unary(base, format, "/proof.S/Fail", ""),
  closed: (base) => unary(base, "text", "/closed.S/Echo", "x"),
  count: (base) => new Promise((done) => {
    const path = "/proof.S/Count";
    const call = new GrpcWebClientBase({ format: "text" }).serverStreaming(base + path, "x", {}, method(path, MethodType.SERVER_STREAMING));
    const [messages, times] = [[], []];
    call.on("data", (message) => { messages.push(message); times.push(performance.now()); });
    call.on("status", (status) => done({ messages, times, code: status.code }));
    call.on("error", (error) => done({ messages, times, code: error.code }));
  }),
};
`;

async function main() {
  execFileSync("python3", ["-c", `import sys; sys.path.insert(0, ${JSON.stringify(HERE)})\nfrom pathlib import Path\nfrom authority import certificates\ncertificates(Path(${JSON.stringify(DIR)}))`]);
  fs.writeFileSync(`${DIR}/page.js`, PAGE);
  await esbuild.build({ entryPoints: [`${DIR}/page.js`], bundle: true, outfile: `${DIR}/bundle.js`, logLevel: "error" });
  const [web, calling] = [await webServer(), await grpcServer()];
  const gateway = new Gateway();
  let browser;
  try {
    await gateway.start(web.address().port, calling.port);
    const headless = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
    browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: headless });
    console.log("Chromium", browser.version());
    const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
    page.setDefaultTimeout(30_000);
    await page.goto(`${gateway.page}/`);
    await page.waitForFunction(() => window.proof);
    await fetches(page, gateway);
    await uploads(page);
    await streams(page);
    await webSocket(page, gateway);
    await calls(page, gateway);
    await reloads(page, gateway);
  } finally {
    await browser?.close();
    gateway.process?.kill("SIGKILL");
    calling.server.forceShutdown();
    web.closeAllConnections();
    web.close();
  }
}

try {
  await main();
} catch (error) {
  console.log(error);
  check("the proof runs to its end", false, String(error));
}
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);

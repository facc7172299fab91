/** What browser tests stand on: servers as processes, a browser, pages, and a network that can be harmed. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { after, afterEach, before, beforeEach } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? `${root}target`;

/** How long anything may take. */
export const PATIENCE = 20_000;

/** Starts an example and reads the address that it prints. */
export const serve = async (example, address = "127.0.0.1:0", ...more) => {
  const child = spawn(`${target}/debug/examples/${example}`, [address, ...more], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface(child.stdout), "line");
  const printed = /127\.0\.0\.1:\d+/.exec(line)[0];
  return {
    address: printed,
    url: `http://${printed}`,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
};

/** Rough networks before an echo server, as `examples/rough.rs` makes them. */
export const serveRough = async () => {
  const child = spawn(`${target}/debug/examples/rough`, [], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  await lines.next();
  // One after the other: the answers come in the order of the lines.
  let last = Promise.resolve();
  const ask = (line) =>
    (last = last.then(async () => {
      child.stdin.write(`${line}\n`);
      return (await lines.next()).value;
    }));
  return {
    async network() {
      const address = await ask("new");
      const port = address.split(":")[1];
      return {
        url: `http://${address}`,
        add: (rule) => ask(`${port} ${rule}`),
        clear: () => ask(`${port} clear`),
        acted: async () => Number(await ask(port)),
      };
    },
    async kill() {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
};

/** Ports that nobody listens on. */
const freePorts = async (count) => {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
};

/** nginx with a port for each setup, before the server that `start` starts, which is told of what origins pages are. */
export const serveNginx = async (setups, start) => {
  const ports = await freePorts(Object.keys(setups).length);
  const urls = {};
  Object.entries(setups).forEach(([name, { tls }], at) => (urls[name] = `${tls ? "https" : "http"}://127.0.0.1:${ports[at]}`));
  const { address } = await start(Object.values(urls));
  const certificates = `${root}tests/certificates`;
  const servers = Object.values(setups).map(({ server = "", location = "", tls = "" }, at) => {
    const ssl = tls && `ssl_certificate ${certificates}/server.pem; ssl_certificate_key ${certificates}/server.key;`;
    return `server { listen 127.0.0.1:${ports[at]}${tls}; ${ssl} ${server} location / { proxy_pass http://${address}; ${location} } }`;
  });
  const folder = mkdtempSync(`${tmpdir()}/nginx-`);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${name};`).join(" ");
  writeFileSync(
    `${folder}/nginx.conf`,
    `${process.getuid() ? "" : "user root;"} daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
    events { worker_connections 1024; }
    http { access_log off; ${temporary} map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    ${servers.join("\n")} }`,
  );
  // Debian has it where only root looks.
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };
  const child = spawn("nginx", ["-p", `${folder}/`, "-c", "nginx.conf", "-e", "error.log"], { env, stdio: ["ignore", "inherit", "inherit"] });
  for (let tries = 0; ; tries++) {
    const reached = await new Promise((resolve) => {
      const socket = net.connect(ports[0], "127.0.0.1", () => resolve(true));
      socket.on("error", () => resolve(false));
      socket.on("connect", () => socket.destroy());
    });
    if (reached) break;
    assert.ok(tries < 200 && child.exitCode === null, "nginx does not start");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    urls,
    async kill() {
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      await gone;
      rmSync(folder, { recursive: true });
    },
  };
};

/** Serves a blank page with the client, from an origin of its own. */
export const serveBlank = async () => {
  const scripts = { "/client.js": readFileSync(`${root}src/server/client.js`) };
  for (const name of ["throughline", "durable", "shared"]) scripts[`/${name}.js`] = readFileSync(`${root}js/dist/${name}.js`);
  const server = http.createServer((request, answer) => {
    const script = scripts[request.url];
    answer.setHeader("content-type", script ? "text/javascript" : "text/html");
    answer.end(script ?? "<!doctype html><link rel=icon href=data:,><title>blank</title>");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, kill: () => void server.close() };
};

/** A network between the browser and a server, which cuts what `blocks` says of the first bytes of a request. */
export const serveProxy = async (address) => {
  const [host, port] = address.split(":");
  const open = new Set();
  let blocks = () => false;
  const server = net.createServer((near) => {
    const far = net.connect(Number(port), host);
    const pair = { seen: "", cut: () => [near, far].forEach((socket) => socket.destroy()) };
    open.add(pair);
    for (const socket of [near, far]) {
      socket.on("error", pair.cut);
      socket.on("close", () => {
        open.delete(pair);
        pair.cut();
      });
    }
    near.on("data", (bytes) => {
      // The head of the latest request on this connection, and the beginning of its body.
      const text = bytes.toString("latin1");
      pair.seen = /^(GET|POST) /.test(text) ? text : (pair.seen + text).slice(0, 4096);
      if (blocks(pair.seen)) pair.cut();
      else far.write(bytes);
    });
    far.pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** From now on, and what is open already. */
    block(what) {
      blocks = (text) => what.test(text);
      for (const pair of open) if (blocks(pair.seen)) pair.cut();
    },
    cutAll() {
      for (const pair of open) pair.cut();
    },
    kill() {
      server.close();
      for (const pair of open) pair.cut();
    },
  };
};

/**
 * A network in which connections open and carry nothing: WebSockets are accepted and silent, streams get a head and, with
 * `silent` of "sse" or "poll", no body; held requests hang with "poll". The rest passes.
 */
export const serveTrap = async (address, silent) => {
  const [host, port] = address.split(":");
  const server = http.createServer((request, answer) => {
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => {
      const isStream = body.includes('"transport":"sse"');
      if (silent !== "websocket" && isStream) {
        answer.writeHead(200, {
          "content-type": "text/event-stream",
          "access-control-allow-origin": request.headers.origin,
          "access-control-allow-credentials": "true",
        });
        return answer.flushHeaders();
      }
      // The first one proves the path, and later ones hang.
      if (silent === "poll" && /^\["poll"/.test(body) && !body.includes('"hold_ms":0')) return;
      const { method, url, headers } = request;
      const far = http.request({ host, port, method, path: url, headers }, (response) => {
        answer.writeHead(response.statusCode, response.headers);
        answer.flushHeaders();
        response.pipe(answer);
      });
      far.on("error", () => answer.destroy());
      answer.on("close", () => far.destroy());
      far.end(body);
    });
  });
  server.on("upgrade", (request, socket) => {
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Protocol: throughline.v1"];
    socket.on("error", () => undefined);
    socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, "", ""].join("\r\n"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    kill() {
      server.close();
      server.closeAllConnections();
    },
  };
};

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--host-resolver-rules=MAP plain.test 127.0.0.1",
    ],
  });

/**
 * What the tests of a file have: a browser, and each for itself a context and a server, which `start` starts (at an address, if
 * it is told one), and the proxy that it sets before it. All of it is gone behind the test.
 */
export const stage = (start) => {
  const on = { browser: undefined, context: undefined, server: undefined, proxy: undefined };
  before(async () => (on.browser = await launch()));
  after(() => on.browser.close());
  beforeEach(async () => {
    on.server = await start();
    on.context = await on.browser.newContext();
  });
  afterEach(async () => {
    await on.context.close();
    await on.server.kill();
    on.proxy?.kill();
    on.proxy = undefined;
  });
  return on;
};

/** A tab at an address; what fails in it fails the test. */
export const tab = async (context, url) => {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error));
  await page.goto(url);
  return page;
};

export const unharmed = (...pages) => {
  for (const page of pages) assert.deepEqual(page.faults, []);
};

/** Waits until a condition in the page holds. */
export const until = async (page, condition, argument) => {
  try {
    await page.waitForFunction(condition, argument, { polling: 20 });
  } catch (error) {
    const state = await page.evaluate(() => JSON.stringify(window.socket?.state)).catch(String);
    throw new Error(`${condition} (${argument}): the state is ${state}`, { cause: error });
  }
};

export const connected = (page, kind) =>
  until(page, (kind) => window.socket?.state.status === "connected" && (!kind || window.socket.state.transport === kind), kind);

export const say = async (page, text) => {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
};

const LINES = () => [...document.querySelectorAll("#lines li:not(.event)")].map((line) => line.lastChild.textContent);

/** What people said, in order, without what the chat says itself. */
export const said = (page) => page.evaluate(LINES);

/** Waits until a page shows exactly this, and has nothing pending. */
export const shows = async (page, expected) => {
  try {
    await page.waitForFunction(
      ([lines, expected]) => JSON.stringify(eval(lines)()) === expected && !document.querySelector(".pending"),
      [String(LINES), JSON.stringify(expected)],
      { polling: 20 },
    );
  } catch {
    assert.deepEqual(await said(page), expected);
  }
};

/**
 * Opens a socket in a blank page that talks to an echo server; `window.heard` are the numbers that came back.
 */
export const openEcho = (page, url, options = {}) =>
  page.evaluate(
    async ([script, url, options]) => {
      const { binary, connect } = await import(script);
      if (options.encoding) options.encoding = options.encoding === "binary" ? binary : undefined;
      window.heard = [];
      window.states = [];
      window.losses = [];
      window.socket = connect(url, options);
      socket.on("message", ({ body }) => heard.push(body));
      socket.on("state", (state) => states.push(state));
      socket.on("lost", (lost) => losses.push(lost));
    },
    [new URL("/client.js", page.url()).href, url, options],
  );

/**
 * Opens a socket in a page of the server's own origin, with the client that it serves. The first message waits for the first
 * connection; `between` is done when the client was loaded and nothing was dialled.
 */
export const openHere = async (page, options, first, between = () => undefined) => {
  await page.evaluate(async () => (window.client = await import("/?client.js")));
  await between();
  await page.evaluate(
    ([options, first]) => {
      window.heard = [];
      window.losses = [];
      window.socket = client.connect("/live", { backoff: { base: 20, cap: 200 }, ...options });
      socket.on("message", ({ body }) => heard.push(body));
      socket.on("lost", (lost) => losses.push(lost.reason.code));
      if (first !== undefined) socket.send(first);
    },
    [options, first],
  );
};

/** Messages of some size, all different. */
export const bodies = (count, from = 0) => Array.from({ length: count }, (_, at) => `${from + at} ${"x".repeat(100)}`);

import { launch, openHere, serveRough, tab } from "./stage.mjs";
const browser = await launch();
const rough = await serveRough();
await Promise.all(Array.from({ length: 12 }, async () => {
  for (let n = 0; n < 4; n++) {
  const network = await rough.network();
  const context = await browser.newContext();
  const page = await tab(context, network.url);
  await page.evaluate(() => {
    window.log = [];
    const t0 = performance.now();
    window.note = (...args) => log.push([(performance.now() - t0).toFixed(0), ...args].join(" "));
    const { fetch: f, WebSocket: W } = window;
    window.fetch = async (url, init) => {
      const b = typeof init?.body === "string" ? init.body : "";
      note("fetch", b.slice(0, 10), b.match(/"attachment":\d+/), b.match(/"candidate":true/), b.match(/\["attach"/) ?? "");
      init?.signal?.addEventListener("abort", () => note("abort", b.slice(0, 10), b.match(/"attachment":\d+/)));
      const r = await f(url, init); note("answer", b.slice(0, 10), r.status); return r;
    };
    window.WebSocket = class extends W { constructor(...a) { super(...a); note("ws new"); this.addEventListener("open", () => note("ws open")); this.addEventListener("close", () => note("ws closed")); this.addEventListener("message", (e) => note("ws got", String(e.data).slice(0, 120))); }
      send(x) { note("ws send", String(x).slice(0, 10), String(x).match(/"attachment":\d+/), String(x).match(/"candidate":true/), String(x).match(/\["attach"/) ?? ""); super.send(x); } close(...a) { note("ws close"); super.close(...a); } };
  });
  await openHere(page, {}, "hello");
  await page.evaluate(() => { socket.on("state", (s) => note("STATE", s.status, s.transport ?? "", s.reason?.code ?? "", s.reason?.message ?? "")); });
  await page.waitForFunction(() => heard.length > 0);
  await new Promise((r) => setTimeout(r, 500));
  const log = await page.evaluate(() => log);
  if (log.some((l) => /STATE reconn/.test(l))) console.log(log.join("\n"), "\n");
  await context.close();
  }
}));
await browser.close();
await rough.kill();

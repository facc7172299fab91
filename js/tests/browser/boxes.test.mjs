/** nginx between a page and the server, as administrators set it up: everything arrives, once and in order. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bodies, launch, openHere, PATIENCE, serve, serveNginx, tab, unharmed, until } from "./stage.mjs";

const ALL = ["websocket", "sse", "long-polling"];
const HTTP = ["sse", "long-polling"];
const FORWARDED =
  "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_set_header Host $http_host;";

/** What stands in its `server`, in its `location`, and who gets through. */
const SETUPS = {
  default: { able: HTTP },
  "upgrade forwarded": { location: FORWARDED, able: ALL },
  "buffers, whatever it is told": { location: "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;", able: ["long-polling"] },
  "3 s idle limits": {
    server: "send_timeout 3s; keepalive_timeout 3s;",
    location: `${FORWARDED} proxy_read_timeout 3s; proxy_send_timeout 3s;`,
    able: ALL,
    idle: 4000,
  },
  "4 KiB body limit": { server: "client_max_body_size 4k;", able: HTTP },
  gzip: { server: "gzip on; gzip_proxied any; gzip_types *; gzip_min_length 1;", able: HTTP },
  TLS: { location: FORWARDED, tls: " ssl", able: ALL },
  "TLS and HTTP/2": { location: FORWARDED, tls: " ssl http2", able: ALL },
};

let browser, nginx, server;
before(async () => {
  browser = await launch();
  nginx = await serveNginx(SETUPS, (origins) => (server = serve("echo_hyper", "127.0.0.1:0", ...origins)));
});
after(async () => {
  await browser.close();
  await nginx.kill();
  await (await server).kill();
});

for (const [name, { able, idle = 50 }] of Object.entries(SETUPS)) {
  test(`behind nginx, ${name}`, async () => {
    const run = async (transports) => {
      const context = await browser.newContext({ ignoreHTTPSErrors: true });
      const page = await tab(context, nginx.urls[name]);
      page.setDefaultTimeout(3 * PATIENCE);
      await openHere(page, { transports }, bodies(1)[0]);
      let count = 1;
      for (let round = 0; round < 4; round++) {
        await page.evaluate((bodies) => bodies.forEach((body) => socket.send(body)), bodies(100, count));
        count += 100;
        await until(page, (count) => heard.length >= count, count);
        await page.waitForTimeout(idle);
      }
      const carrier = await page.evaluate(() => socket.state.transport);
      await page.evaluate(() => socket.close());
      assert.deepEqual(await page.evaluate(() => [heard, losses]), [bodies(count), []], `by ${transports}`);
      unharmed(page);
      await context.close();
      console.log(`${name} by ${transports}: ${carrier}`);
    };
    await Promise.all([...ALL.filter((kind) => able.includes(kind)).map((kind) => [kind]), ALL].map(run));
  });
}

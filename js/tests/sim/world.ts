/** One run: two ends, a network, faults, and then peace. */

import assert from "node:assert/strict";
import { Client, clientConfig, Server, serverConfig } from "./ends.js";
import { Ledger, type Role, type Totals } from "./ledger.js";
import { Network, type Packet } from "./network.js";
import { Rng } from "./rng.js";

/** More events than this, and something spins. */
const MAX_STEPS = 300_000;
/** How long after the faults have stopped the last of what they left behind must be mended. */
const LAG = 100_000;
/** The longest that a session nobody comes back to is kept, or remembered. */
const MEMORY = 260_000;

export class World {
  private readonly net: Network;
  private readonly ledger = new Ledger();
  private readonly client: Client;
  private readonly server: Server;
  private pace: "chaos" | "peace" | "closing" | "over" = "chaos";
  private readonly every: number;
  private readonly zeal: number;
  private steps = 0;
  private closesLeft = 3;

  constructor(seed: number, trace: boolean) {
    this.net = new Network(new Rng(seed), trace);
    const ours = clientConfig(this.net);
    const theirs = serverConfig(this.net, ours.early_);
    this.server = new Server(theirs, this.net, this.ledger);
    this.client = new Client(ours, this.net, this.ledger);
    this.every = this.net.rng.pick([100, 400, 1500, 5000]);
    this.zeal = this.net.rng.pick([100, 400, 900]);
    this.net.log(() => JSON.stringify({ ours, theirs }));
  }

  run(): Totals {
    const { net, ledger } = this;
    const chaos = net.rng.range(1000, 40_000);
    this.client.dial(false);
    net.schedule(0, { type: "app", end: "client" });
    net.schedule(0, { type: "app", end: "server" });
    net.schedule(0, { type: "fault" });
    this.advance(chaos);
    this.calm();
    this.close();
    ledger.finish(this.server.life);
    ledger.totals.disorders = net.disorders;
    ledger.totals.steps = this.steps;
    return ledger.totals;
  }

  /** The faults stop; the applications go on. What was outstanding must come through. */
  private calm(): void {
    const { net, client, ledger } = this;
    net.log(() => "---- peace");
    net.calm();
    this.pace = "peace";
    const then = net.now;
    this.advance(LAG);
    assert.ok(!client.session.end_(), "nobody closed it");
    ledger.checkProgress(client.app.who, then);
    assert.ok(client.session.carrier_(), "the client found no way");
    const entry = this.server.entries.get(client.session.id_);
    assert.ok(entry, "the client's session");
    assert.equal(entry.session.attachment, client.session.carrier_()?.attachment_);
    ledger.checkProgress(entry.app.who, then);
  }

  /** One end closes, or both at once; the other hears of it, and nothing is left anywhere. */
  private close(): void {
    const { net, client, ledger, server } = this;
    net.log(() => "---- closing");
    this.pace = "closing";
    client.sessionsLeft = 0;
    const first = net.rng.below(2);
    const both = net.rng.chance(250);
    const entry = server.entries.get(client.session.id_)!;
    const whos = [client.app.who, entry.app.who];
    if (net.rng.chance(500)) {
      // Where the windows are narrow, whoever closes has to wait for room.
      client.crowd();
      entry.crowd();
      if (both) ledger.totals.crowds++;
    }
    if (first === 1 || both) {
      entry.close();
      entry.pump();
    }
    if (first === 0 || both) {
      client.close();
      client.pump();
    }
    net.maxBatch = 1000;
    this.advance(8000);
    for (const who of whos) {
      const by = ledger.hasEnded(who);
      assert.ok(by, "the close came through");
      assert.notEqual(by, "timeout", "a close in peace ran into its timeout");
    }
    if (!both) assert.equal(ledger.undelivered(whos[first]!), 0, "a graceful close in peace lost something");
    // The applications have nothing more to say; only what is remembered runs out.
    this.pace = "over";
    this.advance(MEMORY);
    assert.equal(server.entries.size, 0, "a session nobody uses is kept");
  }

  private advance(span: number): void {
    const { net, client, server } = this;
    const until = net.now + span;
    for (;;) {
      const next = Math.min(client.session.due_(), server.due(), net.next);
      if (!(next <= until)) break;
      assert.ok(++this.steps < MAX_STEPS, "it spins");
      net.now = Math.max(net.now, next);
      if (net.next <= net.now) this.happen();
      else {
        if (client.session.due_() <= net.now) {
          client.fire();
          client.pump();
        }
        server.fire();
      }
    }
    net.now = Math.max(net.now, until);
  }

  private happen(): void {
    const { net, client } = this;
    const event = net.pop()!;
    switch (event.type) {
      case "packet":
        if (net.arrives(event.sent, event.packet)) this.arrive(event.packet);
        break;
      case "push timeout":
        client.pushTimedOut(event.link, event.no);
        break;
      case "turned down":
        client.turnedDown(event.link, event.no, event.asked);
        break;
      case "asked again":
        client.ask(event.link, event.asked, event.no);
        break;
      case "redial":
        client.redial();
        break;
      case "stored":
        client.hasStored();
        break;
      case "app":
        this.app(event.end);
        break;
      case "fault":
        if (this.pace === "chaos") {
          net.schedule(net.rng.range(0, 2 * this.every), { type: "fault" });
          this.fault();
        }
    }
  }
  private arrive(packet: Packet): void {
    const { client, server } = this;
    switch (packet.type) {
      case "pipe":
        return server.pipe(packet.link, packet.frames);
      case "request":
        return server.request(packet.link, packet.no, packet.deaf, packet.asked);
      case "stream":
        return client.stream(packet.link, packet.frames);
      case "answer":
        return client.answer(packet.link, packet.no, packet.frames, packet.refused);
      case "ended":
        return client.lost(packet.link);
      case "lost":
        return packet.at === "client" ? client.lost(packet.link) : server.lost(packet.link);
    }
  }

  /** In peace both ends send about once per heartbeat: pushes that go on must not keep a dead stream alive. */
  private app(end: Role): void {
    const { net } = this;
    if (this.pace === "over") return;
    const chaotic = this.pace === "chaos";
    const sends = chaotic ? (net.rng.chance(this.zeal) ? net.rng.below(5) : 0) : this.pace === "peace" ? 1 : 0;
    const wait = chaotic ? net.rng.range(0, 700) : this.pace === "peace" ? this.server.config.heartbeat : 1000;
    net.schedule(wait, { type: "app", end });
    if (end === "client") this.client.turn(sends);
    else for (const entry of this.server.entries.values()) entry.turn(sends);
  }

  private fault(): void {
    const { net, client, server, ledger } = this;
    const die = net.rng.below(100);
    const link = client.randomLink();
    if (die < 25) {
      if (link !== undefined) net.hurt(link);
    } else if (die < 45) client.dial(true);
    else if (die < 52) {
      for (let times = net.rng.range(2, 5); times > 0; times--) client.dial(true);
    } else if (die < 60) client.dial(false);
    else if (die < 70) {
      if (link !== undefined) client.lost(link);
    } else if (die < 73) this.restart();
    else if (die < 76) {
      // Both ends sleep through some time.
      if (net.rng.chance(500)) return;
      ledger.totals.jumps++;
      net.now += net.rng.range(1000, 200_000);
      net.log(() => "time jumps");
    } else if (die < 84) this.endSome();
    else if (die < 88) {
      client.session.refreshAuth_("fresh");
      client.pump();
    } else if (die < 91) client.reload();
    else if (die < 92) server.forge(client.session.id_);
    else if (die < 94) client.rogue();
    else if (die < 96) {
      // A look before the time, on both ends.
      client.fire();
      for (const entry of server.entries.values()) entry.pump();
    } else {
      ledger.totals.probes++;
      client.probe();
    }
  }
  private restart(): void {
    const { net, client } = this;
    if (net.rng.chance(500)) return;
    this.ledger.totals.restarts++;
    for (const link of this.server.restart()) {
      if (net.rng.chance(800)) client.lost(link);
      else net.hurt(link);
    }
  }
  /** The application closes or aborts, at one end or both. */
  private endSome(): void {
    const { net, client, ledger } = this;
    if (!this.closesLeft) return;
    this.closesLeft--;
    const [atClient, atServer, abort] = [net.rng.chance(500), net.rng.chance(500), net.rng.chance(250)];
    if (atClient && atServer) ledger.totals.duels++;
    const entry = this.server.entries.get(client.session.id_);
    if (atServer && entry?.session.isOpen) {
      if (abort) entry.abort();
      else entry.close();
      entry.pump();
    }
    if (atClient && client.session.isOpen_()) {
      if (abort) client.abort();
      else client.close();
      client.pump();
    }
  }
}

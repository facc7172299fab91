/** Replays `tests/vectors/conversations.json`; `tests/vectors/README.md` says what the steps mean. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type Frame, type Hello, isMessage, type MessageTag, type Poll, type TransportKind } from "../src/frame/frame.js";
import { close as makeClose, type Close } from "../src/session/close.js";
import { defaults } from "../src/session/config.js";
import type { Binding } from "../src/session/binding.js";
import { httpRules } from "../src/session/http.js";
import type { Held } from "../src/session/outbox.js";
import type { Listener } from "../src/session/events.js";
import { createSession, type Session } from "../src/session/session.js";
import { serverDefaults, type ServerEvent, ServerSession } from "./session/server.js";

type End = "client" | "server";
type Way = "websocket" | "hello" | "stream" | "poll" | "push";
type Written = [string, ...unknown[]];
interface Step {
  from?: End;
  at?: End;
  on?: number;
  via?: Way;
  frames?: Written[];
  lost?: boolean;
  gets?: Written[];
  sees?: unknown[];
  do?: string;
  transport?: TransportKind;
  candidate?: boolean;
  body?: unknown;
  to?: number;
  count?: number;
  code?: string;
  wait?: number;
}
interface Vectors {
  identities: { session: string; key: string; epoch: string }[];
  defaults: Record<string, object>;
  conversations: { name: string; steps: Step[] }[];
}

const vectors = JSON.parse(readFileSync("../tests/vectors/conversations.json", "utf8")) as Vectors;

/** Reasons are for people; the frames of both ends in one form. */
const plain = (frame: Frame, packed: boolean): unknown[] => {
  if (isMessage(frame)) {
    const [tag, seq, re, body] = frame;
    return [tag, seq, ...(re ? [re] : []), packed ? JSON.parse(body as string) : body];
  }
  return frame[0] === "close" ? ["close", frame[1], "", ...(frame[3] && Object.keys(frame[3]).length ? [frame[3]] : [])] : (JSON.parse(JSON.stringify(frame)) as unknown[]);
};

class Replay {
  private now = 1_000_000;
  private identity = 0;
  private client: Session;
  private server: ServerSession | undefined;
  private seen: Record<End, unknown[]> = { client: [], server: [] };
  private readonly partings = new Map<number, Close>();
  private readonly bounds = new Map<number, Binding>();
  private readonly kinds = new Map<number, TransportKind>();

  constructor() {
    this.client = this.begin();
  }
  private begin(): Session {
    const { session, key } = vectors.identities[this.identity]!;
    return createSession({ ...defaults, hold_: 10_000, longestHold_: 10_000 }, session, key, this.now, httpRules);
  }

  private bound(on: number): Binding {
    return this.bounds.get(on)!;
  }

  /** A frame as the file writes it, completed; a message's body as it is delivered. */
  private complete([tag, ...rest]: Written): Frame {
    const given = vectors.defaults[tag];
    if (given) {
      const { session, key, epoch } = vectors.identities[this.identity]!;
      const object = { session, ...(tag !== "welcome" && { key }), ...(tag !== "hello" && { epoch }), ...given, ...(rest[0] as object) };
      return [tag, object] as unknown as Frame;
    }
    if (/^(msg|req|res|err)$/.test(tag)) {
      const answers = rest.length > 2;
      const body = rest.at(-1);
      return [tag as MessageTag, rest[0] as number, answers ? (rest[1] as number) : 0, body, JSON.stringify(body).length];
    }
    return [tag, ...rest] as unknown as Frame;
  }

  private drain(): void {
    const see = (seen: unknown) => this.seen.client.push(seen);
    const listener: Listener = {
      attached_: ({ attachment_ }, resumed) => see(["attached", attachment_, resumed]),
      detached_: ({ attachment_ }, why, close) => see(["detached", attachment_, close?.[1] ?? why]),
      message_: ([tag, seq, , body]) => see(this.message(tag, seq, body)),
      reply_: (_, succeeded, body) => see([succeeded ? "reply" : "failure", body]),
      failed_: (seq, body) => see(["failed", seq, body]),
      ended_: (close, _, undelivered) => see(this.ended(close, undelivered)),
      auth_: () => assert.fail(),
      move_: () => assert.fail(),
    };
    for (let event; (event = this.client.event_()); ) event(listener);
    for (const event of this.server?.events.splice(0) ?? []) {
      if (event.type === "detached" && event.close) this.partings.set(event.attachment, event.close);
      this.seen.server.push(this.serverSaw(event));
    }
  }
  private serverSaw(event: ServerEvent): unknown {
    switch (event.type) {
      case "attached":
        return ["attached", event.attachment, event.resumed];
      case "detached":
        return ["detached", event.attachment, event.said?.[1] ?? event.why];
      case "message":
        return this.message(event.frame[0], event.frame[1], event.frame[3]);
      case "reply":
        return [event.succeeded ? "reply" : "failure", event.body];
      case "ended":
        return this.ended(event.close, event.undelivered);
      default:
        return event;
    }
  }
  private message(tag: MessageTag, seq: number, body: unknown): unknown {
    return tag === "req" ? ["request", seq, body] : ["message", body];
  }
  private ended(close: Close, undelivered: readonly Held[]): unknown {
    const left = undelivered.map(([, seq, , body]) => ({ seq: seq || null, body: JSON.parse(body as string) as unknown }));
    return ["ended", close[1], left];
  }

  private all(end: End, on: number): Frame[] {
    const frames: Frame[] = [];
    const session = this[end];
    const next = () => (session instanceof ServerSession ? session.transmit(on) : session?.transmit_(this.bound(on)));
    for (let frame; (frame = next()); ) frames.push(frame);
    return frames;
  }
  private said(from: End, on: number, via: Way): Frame[] {
    const parting = this.partings.get(on);
    if (parting && from === "server") {
      this.partings.delete(on);
      return [parting];
    }
    if (from === "server" && via === "push") {
      const end = this.server!.end;
      return [end ?? this.server!.pushAnswer(on)];
    }
    if (from === "client" && via === "poll") return [this.client.http_!.poll_(this.bound(on))!];
    if (from === "client" && via === "push") {
      return [this.client.push_(this.bound(on)), ...this.all("client", on)];
    }
    return this.all(from, on);
  }

  private say({ from, on, via, frames, lost }: Required<Pick<Step, "from" | "on" | "via" | "frames">> & Step): void {
    const expected = frames.map((frame) => this.complete(frame));
    if (from === "client" || this.server) {
      assert.deepEqual(
        this.said(from, on, via).map((frame) => plain(frame, true)),
        expected.map((frame) => plain(frame, false)),
      );
    }
    const polls = this.kinds.get(on) === "long-polling";
    if (from === "server" && /hello|poll/.test(via) && polls) this.server?.ended(this.now, on);
    if (lost) {
      if (from === "client" && via === "push") this.client.http_!.pushEnded_(this.bound(on), false);
    } else if (from === "client") this.hearAsServer(on, via, expected);
    else this.hearAsClient(on, via, expected);
  }
  private hearAsClient(on: number, via: Way, frames: Frame[]): void {
    const bound = this.bound(on);
    this.client.tick_(this.now);
    for (const frame of frames) this.client.frame_(bound, via === "push", frame);
    if (via === "push") this.client.http_!.pushEnded_(bound, true);
    if (via === "poll") this.client.http_!.pollEnded_(bound);
  }
  private hearAsServer(on: number, via: Way, frames: Frame[]): void {
    const [first, ...behind] = frames;
    let rest = frames;
    let refused: Close | undefined;
    if (first?.[0] === "hello" || first?.[0] === "poll") {
      rest = behind;
      const { session, epoch } = vectors.identities[this.identity]!;
      const hello = first[1] as Hello;
      if (!this.server && hello.epoch) return;
      this.server ??= new ServerSession(serverDefaults, session, epoch, this.now);
      refused = first[0] === "hello" ? this.server.hello(this.now, hello) : this.server.poll(this.now, first[1] as Poll);
    } else if (first?.[0] === "push") rest = behind;
    if (refused) {
      this.partings.set(on, refused);
      return;
    }
    for (const frame of rest) this.server!.frame(this.now, on, via === "push", frame);
  }

  step(step: Step): void {
    const { at } = step;
    if (step.from) this.say(step as Parameters<Replay["say"]>[0]);
    else if (step.gets) this.hearAsServer(step.on!, step.via!, step.gets.map((frame) => this.complete(frame)));
    else if (step.sees) assert.deepEqual(this.seen[at!].splice(0), step.sees);
    else if (step.wait !== undefined) {
      this.now += step.wait;
      this.client.tick_(this.now);
      if (this.client.due_() <= this.now) this.client.timeout_();
      if (this.server && this.server.due() <= this.now) this.server.timeout(this.now);
    } else this.act(step);
    this.drain();
  }
  private act(step: Step): void {
    const { at, on = 0, body = null, to = 0, count = 1 } = step;
    const text = JSON.stringify(body);
    const tag: MessageTag = step.do === "request" ? "req" : step.do === "reply" ? "res" : step.do === "fail" ? "err" : "msg";
    switch (step.do) {
      case "dial":
        this.bounds.set(on, this.client.introduce_(step.transport!, step.candidate ?? false, undefined)!);
        assert.equal(this.bound(on).attachment_, on);
        this.kinds.set(on, step.transport!);
        return;
      case "lose":
        return at === "client" ? this.client.detach_(this.bound(on)) : this.server!.ended(this.now, on);
      case "forget":
        this.server = undefined;
        this.seen.server = [];
        return this.partings.clear();
      case "renew":
        assert.ok(this.client.end_());
        this.identity++;
        this.client = this.begin();
        return;
      case "take":
        return at === "client" ? this.client.take_(count) : this.server!.take(this.now, count);
      case "close": {
        const close = makeClose(step.code!, "");
        return at === "client" ? this.client.close_(close) : this.server!.close(this.now, close);
      }
      case "send":
      case "request":
      case "reply":
      case "fail": {
        const held = at === "client" ? this.client.send_(tag, to, text, text.length) : this.server!.send(tag, to, text, text.length);
        return assert.equal(typeof held, "object");
      }
      default:
        assert.fail(`unknown deed ${step.do}`);
    }
  }

  finish(): void {
    assert.deepEqual(this.seen, { client: [], server: [] });
    assert.equal(this.partings.size, 0);
    for (const on of this.kinds.keys()) {
      assert.deepEqual(this.all("client", on), []);
      assert.deepEqual(this.all("server", on), []);
    }
  }
}

assert.ok(vectors.conversations.length >= 7);
for (const { name, steps } of vectors.conversations) {
  test(`both ends say what is written: ${name}`, () => {
    const replay = new Replay();
    steps.forEach((step, at) => {
      try {
        replay.step(step);
      } catch (error) {
        (error as Error).message = `step ${at + 1}: ${(error as Error).message}`;
        throw error;
      }
    });
    replay.finish();
  });
}

test("a conversation that is written wrong is noticed", () => {
  const replay = new Replay();
  replay.step({ at: "client", do: "dial", transport: "websocket", on: 1 });
  const hello: Written = ["hello", { attachment: 1, transport: "websocket", received: 1 }];
  assert.throws(() => replay.step({ from: "client", on: 1, via: "websocket", frames: [hello] }));
});

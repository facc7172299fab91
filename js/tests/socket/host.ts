/** A server in this process, behind a `WebSocket` and a `fetch` that are not a browser's, on a clock that is moved by hand. */

import { mock } from "node:test";
import { type Frame, type Hello, isMessage, type MessageFrame, type Poll, type Push, type Rules } from "../../src/frame/frame.js";
import { json } from "../../src/frame/json.js";
import { close as makeClose, type Close } from "../../src/session/close.js";
import { serverDefaults, ServerSession } from "../session/server.js";

const rules: Rules = /^(?!auth_ok|move|welcome)/;
const read = (batch: string): Frame[] => {
  const frames: Frame[] = [];
  json.decode_(batch, (frame) => frames.push(frame), rules);
  return frames;
};

/** Where it hangs, a WebSocket does not open; where it is mute, it opens and carries nothing. Requests are answered. */
export type Mode = "accept" | "refuse" | "hang" | "mute";

/** What a page answers instead of the server. */
export interface Page {
  status: number;
  type: string;
  body: string;
  retryAfter?: number | string;
  /** Which requests it answers, and how many: all, if nothing else is said. */
  only?: RegExp;
  times?: number;
}

export class Host {
  mode: Mode = "accept";
  /** After so many refused WebSockets it accepts. */
  refusals = Infinity;
  /** Answers requests in the server's name. */
  portal: Page | undefined;
  /** Why a `hello` is refused. */
  judge: (hello: Hello) => Close | undefined = () => undefined;
  sessions = new Map<string, ServerSession>();
  sockets: FakeWebSocket[] = [];
  /** Each batch that arrived, as text. */
  batches: string[] = [];
  hellos: Hello[] = [];
  requests = 0;
  /** How long a round trip takes, and a connection. */
  trip = 0;
  /** Connections that no request uses. */
  idle = 0;
  /** What is on its way down by WebSockets for as long as this is here. */
  held: (() => void)[] | undefined;
  /** A box that takes no larger bodies. */
  largest = Infinity;
  heard: unknown[] = [];
  expires = 0;
  /** What becomes of a message. */
  handle: (session: ServerSession, frame: MessageFrame) => void = (session, [tag, seq, , body]) => {
    const text = JSON.stringify(body);
    if (tag === "req") session.send("res", seq, text, text.length);
  };

  session(): ServerSession {
    return [...this.sessions.values()].at(-1)!;
  }
  say(body: unknown, tag: "msg" | "req" = "msg"): void {
    const text = JSON.stringify(body);
    this.session().send(tag, 0, text, text.length);
    this.pump();
  }
  /** Forgets all, and cuts what is open. */
  restart(): void {
    this.sessions.clear();
    this.cut();
  }
  cut(): void {
    for (const socket of this.sockets.splice(0)) socket.fall();
  }

  hello(hello: Hello): Close | undefined {
    this.hellos.push(hello);
    const refused = this.judge(hello);
    if (refused) return refused;
    let session = this.sessions.get(hello.session);
    if (!session) {
      if (hello.epoch) return makeClose("unknown_session", "no such session");
      session = new ServerSession(serverDefaults, hello.session, "epoch-epoch", Date.now());
      this.sessions.set(hello.session, session);
    }
    const close = session.hello(Date.now(), hello);
    if (!close) session.grant(Date.now(), this.expires);
    return close;
  }
  /** Lets all sessions act and write. */
  pump(): void {
    for (const session of this.sessions.values()) {
      if (session.due() <= Date.now()) session.timeout(Date.now());
      for (const event of session.events.splice(0)) {
        if (event.type === "message") {
          this.heard.push(event.frame[3]);
          session.take(Date.now(), 1);
          this.handle(session, event.frame);
        } else if (event.type === "auth") session.acceptAuth(Date.now(), this.expires);
        else if (event.type === "detached") {
          for (const socket of this.sockets.filter(({ attachment, of }) => of === session && attachment === event.attachment)) {
            if (event.close) socket.write([event.close]);
            socket.fall();
          }
        }
      }
      for (const socket of [...this.sockets]) {
        if (socket.of !== session) continue;
        const frames: Frame[] = [];
        for (let frame; (frame = session.transmit(socket.attachment)); ) frames.push(frame);
        if (frames.length) socket.write(frames);
      }
    }
  }

  /** What happens so many round trips later. */
  later(trips: number, what: () => void): void {
    if (this.trip) setTimeout(what, this.trip * trips);
    else queueMicrotask(what);
  }
  async fetch(url: string, init: RequestInit): Promise<Response> {
    if (!this.trip) return this.answer(url, init);
    const travel = async (trips: number) => {
      await new Promise<void>((resolve) => this.later(trips, resolve));
      init.signal?.throwIfAborted();
    };
    const reused = this.idle > 0;
    this.idle = Math.max(this.idle - 1, 0);
    await travel(reused ? 0.5 : 1.5);
    const answer = await this.answer(url, init);
    await travel(0.5);
    this.idle++;
    return answer;
  }
  async answer(_url: string, init: RequestInit): Promise<Response> {
    this.requests++;
    if (this.portal?.only?.test(init.body as string) ?? this.portal) {
      const { status, type, body, retryAfter, times = Infinity } = this.portal!;
      this.portal = times > 1 ? { ...this.portal!, times: times - 1 } : undefined;
      return new Response(body, { status, headers: { "content-type": type, ...(retryAfter && { "retry-after": String(retryAfter) }) } });
    }
    if ((init.body as string).length > this.largest) return new Response("<html>", { status: 413, headers: { "content-type": "text/html" } });
    if (this.mode === "refuse") throw new TypeError("fetch failed");
    const text = init.body as string;
    this.batches.push(text);
    const [first, ...rest] = read(text);
    const answer = (frames: Frame[], status = 200) =>
      new Response(json.join_(frames.map(json.encode_)) as string, { status, headers: { "content-type": json.media_ } });
    const refuse = (close: Close) => answer([close], 400);
    if (first![0] === "hello") {
      const refused = this.hello(first![1] as Hello);
      if (refused) return refuse(refused);
    }
    const { session: id, attachment } = first![1] as Push;
    const session = this.sessions.get(id);
    if (!session) return refuse(makeClose("unknown_session", ""));
    if (first![0] === "push") {
      for (const frame of rest) session.frame(Date.now(), attachment, true, frame);
      this.pump();
      return answer([session.end ?? session.pushAnswer(attachment)]);
    }
    if (first![0] === "poll") {
      const refused = session.poll(Date.now(), first![1] as Poll);
      if (refused) return refuse(refused);
    }
    // Held until there is something to say.
    return new Promise((resolve, reject) => {
      init.signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
      const look = () => {
        if (init.signal?.aborted) return;
        this.pump();
        const frames: Frame[] = [];
        for (let frame; (frame = session.transmit(attachment)); ) frames.push(frame);
        if (!frames.length) return void setTimeout(look, 10);
        session.ended(Date.now(), attachment);
        resolve(answer(frames));
      };
      look();
    });
  }
}

let host: Host;

export class FakeWebSocket {
  readyState = 0;
  binaryType = "";
  onopen?: () => void;
  onclose?: () => void;
  onmessage?: (event: { data: string }) => void;
  of: ServerSession | undefined;
  attachment = 0;
  /** Once something of it was swallowed, all behind that is too: nothing loses a part of a stream and carries the rest. */
  mute = false;
  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {
    host.sockets.push(this);
    if (host.mode === "hang") return;
    host.later(2, () => {
      if (this.readyState) return;
      if (host.mode === "refuse") {
        if (!--host.refusals) host.mode = "accept";
        return this.fall();
      }
      this.readyState = 1;
      this.onopen?.();
    });
  }
  send(text: string): void {
    if (!host.trip) return this.arrive(text);
    host.later(0.5, () => this.readyState === 1 && this.arrive(text));
  }
  arrive(text: string): void {
    if ((this.mute ||= host.mode === "mute")) return;
    host.batches.push(text);
    const frames = read(text);
    if (frames[0]?.[0] === "hello") {
      const hello = frames.shift()![1] as Hello;
      const refused = host.hello(hello);
      if (refused) {
        this.write([refused]);
        return this.fall();
      }
      this.of = host.sessions.get(hello.session);
      this.attachment = hello.attachment;
    }
    for (const frame of frames) this.of?.frame(Date.now(), this.attachment, false, frame);
    host.pump();
  }
  write(frames: Frame[]): void {
    const text = json.join_(frames.map(json.encode_)) as string;
    const arrive = () => this.onmessage?.({ data: text });
    if (host.held) host.held.push(arrive);
    else host.later(0.5, arrive);
  }
  close(): void {
    host.sockets = host.sockets.filter((socket) => socket !== this);
    this.readyState = 3;
    this.of?.ended(Date.now(), this.attachment);
  }
  fall(): void {
    this.readyState = 3;
    host.sockets = host.sockets.filter((socket) => socket !== this);
    host.later(0.5, () => this.onclose?.());
  }
}

/** A new host, and a clock that stands still. */
export const begin = (): Host => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  mock.method(Math, "random", () => 0.5);
  host = new Host();
  Object.assign(globalThis, {
    WebSocket: FakeWebSocket,
    fetch: (url: string, init: RequestInit) => host.fetch(url, init),
  });
  return host;
};

/** Lets everything happen that is due now. */
export const settle = async (): Promise<void> => {
  for (let times = 0; times < 20; times++) {
    await new Promise((resolve) => setImmediate(resolve));
    host.pump();
  }
};
/** Moves the clock, in steps. */
export const pass = async (time: number): Promise<void> => {
  for (const end = Date.now() + time; Date.now() < end; ) {
    mock.timers.tick(Math.min(50, end - Date.now()));
    await settle();
  }
};

export { isMessage };

/**
 * The wire between the ends: links that delay, lose, cut and repeat, and the queue of what is to come.
 *
 * A link is one transport as the client dialled it. What goes over a stream (a WebSocket both ways, the response of
 * SSE) arrives in order or not at all; requests beside it and their answers go each their own way.
 */

import assert from "node:assert/strict";
import { type Codec, type Frame, fromServer, isMessage, type Poll, type Push, type Rules } from "../../src/frame/frame.js";
import { binary } from "../../src/frame/binary.js";
import { json } from "../../src/frame/json.js";
import { Rng } from "./rng.js";

/** No network holds a packet for longer; a session's id is remembered for longer than that. */
const MAX_AGE = 8000;

export type Asked =
  | { type: "hello"; frames: Frame[] }
  | { type: "poll"; poll: Poll }
  | { type: "push"; push: Push; frames: Frame[] };

export type Packet =
  | { type: "pipe"; link: number; frames: Frame[] }
  /** To a deaf one every answer is lost. */
  | { type: "request"; link: number; no: number; deaf: boolean; asked: Asked }
  /** A request that arrived twice has two responses; the client hears the one that comes first. */
  | { type: "stream"; link: number; response: number; frames: Frame[] }
  | { type: "answer"; link: number; no: number; frames: Frame[]; refused: boolean }
  | { type: "ended"; link: number; response: number }
  | { type: "lost"; link: number; at: "client" | "server" };

export type Happening =
  | { type: "packet"; sent: number; packet: Packet }
  | { type: "push timeout"; link: number; no: number }
  /** A box has answered that there is no room now; and the pause behind that is over. */
  | { type: "turned down"; link: number; no: number; asked: Asked }
  | { type: "asked again"; link: number; no: number; asked: Asked }
  | { type: "redial" }
  | { type: "stored" }
  | { type: "app"; end: "client" | "server" }
  | { type: "fault" };

interface Path {
  latency: number;
  /** Half open: what is sent vanishes. */
  blocked: boolean;
  last: number;
}
interface Link {
  up: Path;
  down: Path;
  /** What is in flight is lost as well. */
  void: boolean;
  response: number | undefined;
}

const fromClient: Rules = /^(?!auth_ok|move|welcome)/;

/** A heap of what is to come, by time and then by order. */
class Queue {
  private readonly heap: { at: number; no: number; happening: Happening }[] = [];
  private count = 0;
  get next(): number {
    return this.heap[0]?.at ?? Infinity;
  }
  private less(a: number, b: number): boolean {
    const [x, y] = [this.heap[a]!, this.heap[b]!];
    return x.at < y.at || (x.at === y.at && x.no < y.no);
  }
  private swap(a: number, b: number): void {
    [this.heap[a], this.heap[b]] = [this.heap[b]!, this.heap[a]!];
  }
  push(at: number, happening: Happening): void {
    let i = this.heap.push({ at, no: this.count++, happening }) - 1;
    for (let up; i > 0 && this.less(i, (up = (i - 1) >> 1)); i = up) this.swap(i, up);
  }
  pop(): Happening | undefined {
    const top = this.heap[0];
    const last = this.heap.pop();
    if (!top || !last || !this.heap.length) return top?.happening;
    this.heap[0] = last;
    for (let i = 0; ; ) {
      let small = i;
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (child < this.heap.length && this.less(child, small)) small = child;
      }
      if (small === i) return top.happening;
      this.swap(i, small);
      i = small;
    }
  }
}

export class Network {
  now = 0;
  faulty = true;
  maxBatch: number;
  private readonly links: Link[] = [];
  private readonly queue = new Queue();
  private requests = 0;
  disorders = 0;
  /** Some runs send all frames through an encoding and back. */
  private readonly codec: Codec | undefined;

  constructor(
    readonly rng: Rng,
    readonly trace: boolean,
  ) {
    this.codec = [json, binary][rng.below(10)];
    this.maxBatch = rng.chance(300) ? rng.range(2, 4) : 1000;
  }

  log(text: () => string): void {
    if (this.trace) console.error(`${(this.now / 1000).toFixed(3).padStart(9)} ${text()}`);
  }

  /** The time as an end may read it: now, or earlier where clocks are read out of order. */
  clock(): number {
    return this.rng.chance(20) ? this.now - Math.min(this.rng.range(0, 100), this.now) : this.now;
  }
  get next(): number {
    return this.queue.next;
  }
  pop(): Happening | undefined {
    return this.queue.pop();
  }
  schedule(wait: number, happening: Happening): void {
    this.queue.push(this.now + wait, happening);
  }
  private post(at: number, packet: Packet): void {
    this.queue.push(at, { type: "packet", sent: this.now, packet });
  }

  dial(): number {
    const high = this.faulty && this.rng.chance(150) ? 3000 : 80;
    const path = (): Path => ({ latency: this.rng.range(0, high), blocked: false, last: this.now });
    const link = this.links.push({ up: path(), down: path(), void: false, response: undefined }) - 1;
    if (this.faulty && this.rng.chance(80)) this.hurt(link);
    return link;
  }

  private sendInOrder(path: Path, packet: Packet): void {
    if (path.blocked) return;
    path.last = Math.max(path.last, this.now + path.latency);
    this.post(path.last, packet);
  }
  private sendAlone(path: Path, packet: Packet): void {
    if (path.blocked || (this.faulty && this.rng.chance(30))) return;
    const tail = this.faulty && this.rng.chance(60) ? 4000 : 20;
    this.post(this.now + path.latency + this.rng.range(0, tail), packet);
  }

  pipeUp(link: number, frames: Frame[]): void {
    this.log(() => `link ${link} ^ ${brief(frames)}`);
    this.sendInOrder(this.links[link]!.up, { type: "pipe", link, frames: this.carry(this.disorder(frames), fromClient) });
  }
  streamDown(link: number, response: number, frames: Frame[]): void {
    this.log(() => `link ${link}           v ${brief(frames)}`);
    this.sendInOrder(this.links[link]!.down, { type: "stream", link, response, frames: this.carry(this.disorder(frames), fromServer) });
  }
  /** A box on the way, or a mistake in one end, that changes the order in a stream: whoever reads it must notice. */
  private disorder(frames: Frame[]): Frame[] {
    if (!this.faulty || frames.length < 2 || !this.rng.chance(20)) return frames;
    const at = frames.findIndex((frame, at) => isMessage(frame) && at > 0 && isMessage(frames[at - 1]!));
    if (at < 0) return frames;
    this.disorders++;
    const changed = frames.slice();
    const [first] = changed.splice(at - 1, 1);
    // Swapped, or the first of two is missing.
    if (this.rng.chance(500)) changed.splice(at, 0, first!);
    return changed;
  }
  respond(): number {
    return ++this.requests;
  }
  endDown(link: number, response: number): void {
    this.sendInOrder(this.links[link]!.down, { type: "ended", link, response });
  }
  /** The number of a request that a box turns down for now. */
  turnDown(link: number, asked: Asked, no = ++this.requests): number {
    this.log(() => `link ${link} ^ POST ${no} ${asked.type}: no room now`);
    this.schedule(this.rng.range(0, 200), { type: "turned down", link, no, asked });
    return no;
  }
  /** Sends a request, perhaps twice, and gives its number. */
  request(link: number, asked: Asked, no = ++this.requests): number {
    this.log(() => `link ${link} ^ POST ${no} ${asked.type} ${asked.type === "poll" ? asked.poll.received : brief(asked.frames)}`);
    if (asked.type !== "poll") asked = { ...asked, frames: this.carry(asked.frames, fromClient) };
    const { up } = this.links[link]!;
    if (this.faulty && this.rng.chance(60)) {
      const wait = this.rng.range(0, 6000);
      if (!up.blocked) this.post(this.now + wait, { type: "request", link, no, deaf: this.rng.chance(500), asked });
    }
    this.sendAlone(up, { type: "request", link, no, deaf: this.faulty && this.rng.chance(40), asked });
    return no;
  }
  answer(link: number, no: number, frames: Frame[], refused: boolean): void {
    this.log(() => `link ${link}           v answer ${no} ${brief(frames)}`);
    this.sendAlone(this.links[link]!.down, { type: "answer", link, no, frames: this.carry(frames, fromServer), refused });
  }

  /** Bodies become values on the way. */
  private carry(frames: Frame[], rules: Rules): Frame[] {
    const parsed = frames.map((frame): Frame => {
      if (!isMessage(frame) || typeof frame[3] !== "string") return frame;
      const [tag, seq, re, body, size] = frame;
      return [tag, seq, re, JSON.parse(body as string), size];
    });
    if (!this.codec) return parsed;
    const decoded: Frame[] = [];
    const batch = this.codec.join_(frames.map(this.codec.encode_));
    const input = typeof batch === "string" ? batch : (batch.slice().buffer as ArrayBuffer);
    this.codec.decode_(input, (frame) => decoded.push(frame), rules, { message_: 1 << 20, batch_: 1 << 20, frames_: 1e6 });
    const plain = parsed.map((frame) => (isMessage(frame) ? frame : (JSON.parse(JSON.stringify(frame)) as Frame)));
    assert.deepEqual(decoded, plain, "encoding and decoding is not the identity");
    return decoded;
  }

  /** Whether a packet still arrives. */
  arrives(sent: number, packet: Packet): boolean {
    if (packet.type === "lost") return true;
    const link = this.links[packet.link]!;
    if (packet.type === "stream" || packet.type === "ended") {
      link.response ??= packet.response;
      if (link.response !== packet.response) return false;
    }
    if (this.now - sent > MAX_AGE) {
      // A stream with a hole is no stream: both paths are dead from here on.
      link.up.blocked = link.down.blocked = link.void = true;
    }
    return !link.void;
  }

  /** Does no harm any more; what is broken stays broken. */
  calm(): void {
    this.faulty = false;
    for (const { up, down } of this.links) {
      up.latency = Math.min(up.latency, 80);
      down.latency = Math.min(down.latency, 80);
    }
  }

  /** Harms a link: cut with or without what is in flight, told to either end or not, half open, slow. */
  hurt(id: number): void {
    const harm = this.rng.below(6);
    const link = this.links[id]!;
    this.log(() => `link ${id} harm ${harm}`);
    if (harm === 0) link.up.blocked = true;
    else if (harm === 1) link.down.blocked = true;
    else if (harm === 2) link.down.latency = this.rng.range(500, 5000);
    else if (harm === 3) link.up.latency = this.rng.range(500, 5000);
    else {
      link.void ||= this.rng.chance(500);
      link.up.blocked = link.down.blocked = true;
      for (const at of ["client", "server"] as const) {
        if (this.rng.chance(700)) this.post(this.now + this.rng.range(0, 3000), { type: "lost", link: id, at });
      }
    }
  }
}

const brief = (frames: Frame[]): string =>
  frames
    .map((frame) => {
      switch (frame[0]) {
        case "hello":
          return `hello#${frame[1].attachment}${frame[1].candidate ? "?" : ""}${frame[1].epoch ? "e" : ""} rcv${frame[1].received}`;
        case "welcome":
          return `welcome#${frame[1].attachment} rcv${frame[1].received} ${frame[1].resumed}`;
        case "close":
          return `close ${frame[1]} ${frame[3]?.received}`;
        default:
          return `${frame[0]}${String(frame[1] ?? "")}${frame[0] === "ack" ? `/${frame[2] ?? frame[1]}` : ""}`;
      }
    })
    .join(" ");

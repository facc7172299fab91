/** Replays `tests/vectors`: frames in both encodings, what decoders refuse, and streams of events. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { binary } from "../src/frame/binary.js";
import { type Codec, type Frame, fromServer, isDeep, isMessage, limits, type Rules } from "../src/frame/frame.js";
import { json } from "../src/frame/json.js";
import { jsonReader, lines } from "../src/frame/lines.js";
import { close } from "../src/session/close.js";

// eslint-disable-next-line -- test data is what it is
type Data = Record<string, unknown>;
const load = (name: string): Record<string, Data[]> =>
  JSON.parse(readFileSync(`../tests/vectors/${name}`, "utf8")) as Record<string, Data[]>;
const unhex = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const buffer = (bytes: Uint8Array) => bytes.slice().buffer as ArrayBuffer;

const isNumber = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isSeq = (value: unknown) => isNumber(value) && value !== 0;
type Check = (value: unknown) => boolean;
const optional =
  (check: Check): Check =>
  (value) =>
    value == null || check(value);
const members =
  (shape: Record<string, Check>): Check =>
  (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
    const object = value as Record<string, unknown>;
    return (
      Object.keys(shape).every((name) => shape[name]!(object[name])) && !((object["taken"] as number) > (object["received"] as number))
    );
  };
const token = (length: number, last: RegExp) => (value: unknown) =>
  typeof value === "string" && value.length === length && /^[\w-]+$/.test(value) && last.test(value);
const id = token(22, /[AQgw]$/);
const key = token(43, /[AEIMQUYcgkosw048]$/);
const epoch = token(11, /[AEIMQUYcgkosw048]$/);
const u32 = (value: unknown) => isNumber(value) && (value as number) < 2 ** 32;
const transport = (value: unknown) => ["websocket", "sse", "long-polling"].includes(value as string);
const receipt = { received: isNumber, taken: optional(isNumber) };
const address = { session: id, key, epoch, attachment: isSeq };

/** What a client sends, read as strictly as a server does: its frames, and its objects. */
const fromClient: Rules = /^((msg|req) 1.b?|res 11.b?|err 11.|ack [01]{1,2}|p[io]ng [01]?|closing |close [bc]([bct]o?)?|auth .|(hello|attach|push|poll) o)$/;
const objects: Partial<Record<string, Check>> = {
  hello: members({
    ...address,
    ...receipt,
    epoch: optional(epoch),
    version: u32,
    transport,
    window: members({ messages: u32, bytes: isNumber }),
    candidate: optional((value) => typeof value === "boolean"),
  }),
  attach: members(receipt),
  auth: (value) => !isDeep(value, 128),
  push: members(address),
  poll: members({ ...address, ...receipt, hold_ms: isNumber }),
};
const rulesOf = (sender: unknown): Rules[] =>
  sender === "both" ? [fromClient, fromServer] : [sender === "client" ? fromClient : fromServer];

/** A frame that is to be encoded. */
const frameOf = (vector: Data): Frame => {
  const { tag } = vector as { tag: string };
  const number = (name: string) => vector[name] as number;
  switch (tag) {
    case "ack":
      return number("received") === number("taken") ? ["ack", number("received")] : ["ack", number("received"), number("taken")];
    case "ping":
    case "pong":
      return vector["number"] === null ? [tag] : [tag, number("number")];
    case "auth":
      return ["auth", JSON.parse(vector["json"] as string)];
    case "closing":
      return ["closing"];
    case "auth_ok":
      return ["auth_ok", number("expires_ms")];
    case "close": {
      const detail = vector["detail"] as object;
      const close = ["close", vector["code"], vector["reason"]];
      return (Object.keys(detail).length ? [...close, detail] : close) as unknown as Frame;
    }
    case "msg":
    case "req":
    case "res":
    case "err": {
      const bytes = vector["hex"] as string | undefined;
      const body = bytes === undefined ? (vector["json"] as string) : unhex(bytes);
      const size = typeof body === "string" ? Buffer.byteLength(body) : body.length;
      return [tag, number("seq"), (vector["answers"] as number | undefined) ?? 0, body, size];
    }
    default:
      return [tag, vector["value"]] as unknown as Frame;
  }
};
/** The same as it comes out of a decoder: bodies are values. */
const decoded = (frame: Frame): Frame =>
  isMessage(frame) && typeof frame[3] === "string"
    ? [frame[0], frame[1], frame[2], JSON.parse(frame[3]), frame[4]]
    : frame[0] === "close" && frame.length < 4
      ? (["close", frame[1], frame[2] ?? ""] as Frame)
      : frame;

const codecs: Record<string, Codec> = { json, binary };
const read = (codec: Codec, input: string | Uint8Array, rules: Rules, bounds = limits): Frame[] => {
  const frames: Frame[] = [];
  const batch = typeof input === "string" ? (codec === binary ? assert.fail() : input) : buffer(input);
  const take = (frame: Frame) => {
    assert.ok(objects[frame[0]]?.(frame[1]) ?? true);
    frames.push(frame);
  };
  codec.decode_(batch, take, rules, bounds);
  return frames;
};
const inputOf = (vector: Data): string | Uint8Array =>
  vector["text"] === undefined ? unhex(vector["hex"] as string) : (vector["text"] as string);
/** Sizes are exact as encoders write, and never too small otherwise. */
const withoutSize = (frames: Frame[]) => frames.map((frame) => (isMessage(frame) ? frame.slice(0, 4) : frame.length === 4 ? frame : frame.slice(0, 3)));
const normal = (frames: Frame[]) =>
  frames.map((frame) => {
    if (frame[0] === "ack" && frame[2] === frame[1]) return ["ack", frame[1]] as Frame;
    if (frame[0] === "close") {
      const all = Object.entries(frame[3] ?? {}) as [string, unknown][];
      const detail = Object.fromEntries(all.filter(([name, value]) => value !== null && /^(received|attachment|retry_after_ms)$/.test(name)));
      return ["close", frame[1], close("", frame[2])[2], ...(Object.keys(detail).length ? [detail] : [])] as unknown as Frame;
    }
    return frame;
  });
/** Without the members that a decoder passes over, and without what says nothing. */
const KNOWN = new Set(
  ("version session key epoch attachment transport received taken window candidate auth client resumed heartbeat_ms " +
    "resume_window_ms max_message_bytes max_batch_bytes transports auth_expires_ms within_ms hold_ms messages bytes").split(" "),
);
const strip = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const { taken, ...rest } = value as Data;
  const entries = Object.entries(taken === rest["received"] ? rest : (value as Data));
  return Object.fromEntries(
    entries.filter(([name, inner]) => KNOWN.has(name) && inner !== null && inner !== false).map(([name, inner]) => [name, strip(inner)]),
  );
};
const essence = (frames: Frame[]) =>
  withoutSize(normal(frames)).map((frame) => (frame[0] === "auth" || frame.length > 2 ? frame : [frame[0], strip(frame[1])]));

test("frames are encoded byte by byte and decode to themselves", () => {
  const { frames } = load("frames.json");
  assert.ok(frames!.length >= 60);
  for (const vector of frames!) {
    const name = vector["name"] as string;
    const frame = frameOf(vector["frame"] as Data);
    const text = vector["json"] as string;
    const bytes = vector["binary"] as string;
    assert.equal(json.encode_(frame), text, name);
    assert.equal(hex(binary.encode_(frame) as Uint8Array), bytes, name);
    for (const rules of rulesOf(vector["sent_by"])) {
      assert.deepEqual(normal(read(json, text, rules)), normal([decoded(frame)]), name);
      assert.deepEqual(normal(read(binary, unhex(bytes), rules)), normal([decoded(frame)]), name);
      for (const also of (vector["also"] as Data[] | undefined) ?? []) {
        const got = read(codecs[also["encoding"] as string]!, inputOf(also), rules);
        assert.deepEqual(essence(got), essence([decoded(frame)]), `${name}: ${JSON.stringify(also)}`);
      }
    }
  }
});

test("a batch is its frames joined, and decodes to them", () => {
  const frames = load("frames.json")["frames"]!.filter((vector) => vector["sent_by"] !== "client").map((vector) => frameOf(vector["frame"] as Data));
  for (const codec of [json, binary]) {
    const batch = codec.join_(frames.map(codec.encode_));
    const input = typeof batch === "string" ? new TextEncoder().encode(batch) : batch;
    assert.deepEqual(normal(read(codec, input, fromServer)), normal(frames.map(decoded)));
  }
});

test("all binary frames in one stream decode wherever it is cut", () => {
  const vectors = load("frames.json")["frames"]!.filter((vector) => vector["sent_by"] !== "client");
  const frames = vectors.map((vector) => decoded(frameOf(vector["frame"] as Data)));
  const stream = unhex(vectors.map((vector) => vector["binary"]).join(""));
  for (const size of [1, 2, 3, 64, stream.length]) {
    const got: Frame[] = [];
    const feed = binary.reader_!((frame) => got.push(frame));
    for (let at = 0; at < stream.length; at += size) feed(stream.subarray(at, at + size));
    assert.deepEqual(normal(got), normal(frames));
  }
});

test("frames of extensions are passed over", () => {
  for (const input of load("frames.json")["ignored"]!) {
    assert.deepEqual(read(codecs[input["encoding"] as string]!, inputOf(input), fromServer), []);
  }
});

test("what is not frames is refused", () => {
  const { refused } = load("refused.json");
  assert.ok(refused!.length >= 150);
  let byDigits = 0;
  for (const vector of refused!) {
    if (vector["by_digits"]) {
      // A decoder that sees only the value takes it, as this one.
      byDigits++;
      continue;
    }
    const bounds = vector["limits"] as Record<string, number> | undefined;
    const within = bounds
      ? { message_: bounds["max_message_bytes"]!, batch_: bounds["max_batch_bytes"]!, frames_: bounds["max_batch_frames"]! }
      : limits;
    const codec = codecs[vector["encoding"] as string]!;
    const rules = vector["from"] === "client" ? fromClient : fromServer;
    assert.throws(() => read(codec, inputOf(vector), rules, within), vector["name"] as string);
  }
  assert.ok(byDigits < 10);
});

test("streams give the lines of their events wherever they are cut", () => {
  const { streams } = load("event_stream.json");
  assert.ok(streams!.length >= 25);
  for (const vector of streams!) {
    const bytes = new TextEncoder().encode(vector["text"] as string);
    const bounds = vector["limits"] as Record<string, number> | undefined;
    const read = (pieces: Uint8Array[]) => {
      const got: string[] = [];
      const feed = lines((line) => got.push(line), bounds?.["max_event_bytes"]);
      for (const piece of pieces) feed(piece);
      return got;
    };
    const cuts = [Array.from(bytes, (byte) => Uint8Array.of(byte))];
    for (let at = 0; at <= bytes.length; at++) cuts.push([bytes.subarray(0, at), bytes.subarray(at)]);
    // What bounds an event protects who gathers it: here each line goes on at once, and what is no frame ends the stream.
    if (vector["name"] === "a line that does not end") {
      for (const pieces of cuts) assert.throws(() => read(pieces));
      continue;
    }
    const whole = read([bytes]);
    for (const pieces of cuts) assert.deepEqual(read(pieces), whole, vector["name"] as string);
    const data = (vector["events"] as Data[]).flatMap((event) => (event["data"] as string).split("\n")).filter((line) => line);
    let at = 0;
    for (const line of data) assert.ok((at = whole.indexOf(line, at) + 1), `${vector["name"] as string}: ${line}`);
  }
});

test("a line that is no frame, no field of an event and no comment is refused", () => {
  for (const text of ["<html>\n", "nope", '["ack",5', '["ack",5]\n<html>\n', "data: <html>\n"]) {
    const feed = jsonReader(() => undefined);
    assert.throws(() => {
      feed(new TextEncoder().encode(text));
      feed();
    }, text);
  }
  const got: Frame[] = [];
  const feed = jsonReader((frame) => got.push(frame));
  for (const text of [": hi\nretry: 5\n\ndata: [\"ack\",1]\ndata:[\"pi", "ng\"]\r", '\n["ack",2]']) feed(new TextEncoder().encode(text));
  feed();
  assert.deepEqual(got, [["ack", 1], ["ping"], ["ack", 2]]);
});

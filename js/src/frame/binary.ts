/** The binary encoding: a length, a type and a payload per frame. It implements `docs/PROTOCOL.md`, "Binary". */

import {
  checked,
  type Codec,
  type Frame,
  fromServer,
  fromUtf8,
  isMessage,
  limits,
  type Limits,
  malformed,
  type Rules,
  toUtf8,
} from "./frame.js";

/** Tags by their types; an empty one has none. Of two in a row the second carries bytes. */
const TAGS = "/msg/msg/req/req/res/res/err/ack/ping/pong/closing/////hello/welcome/attach/auth/auth_ok/move/close/poll/push".split("/");
const MEDIA = "application/vnd.throughline";

const varint = (number: number, into: number[]): void => {
  for (; number > 127; number = Math.floor(number / 128)) into.push((number % 128) | 128);
  into.push(number);
};

const concat = (parts: readonly Uint8Array[]): Uint8Array => {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
};

/** Reads a varint; undefined when the bytes end before it does. */
const number = (bytes: Uint8Array, cursor: { at_: number }): number | undefined => {
  for (let value = 0, scale = 1, length = 0; ; scale *= 128) {
    const byte = bytes[cursor.at_++];
    if (byte === undefined) return undefined;
    value += (byte & 127) * scale;
    if (++length > 9 || (byte === 0 && length > 1)) malformed();
    if (byte < 128) return value;
  }
};

/** Reads all whole frames; returns what is left. */
const frames = (bytes: Uint8Array, take: (frame: Frame) => void, rules: Rules, bounds: Limits, count = { n_: 0 }): Uint8Array => {
  for (;;) {
    const cursor = { at_: 0 };
    const length = number(bytes, cursor);
    if (length === undefined) return bytes;
    if (!length || length > bounds.batch_) malformed();
    const end = cursor.at_ + length;
    if (bytes.length < end) return bytes;
    if (++count.n_ > bounds.frames_) malformed();
    const payload = bytes.subarray(cursor.at_, end);
    bytes = bytes.subarray(end);
    const frame = one(payload, rules, bounds);
    if (frame) take(frame);
  }
};

const one = (payload: Uint8Array, rules: Rules, bounds: Limits): Frame | undefined => {
  const type = payload[0]!;
  const tag = TAGS[type];
  if (type > 127) return undefined;
  if (!tag) return malformed();
  const cursor = { at_: 1 };
  const digits = (most: number): number[] => {
    const numbers = [];
    while (most-- && cursor.at_ < payload.length) numbers.push(number(payload, cursor) ?? malformed());
    return numbers;
  };
  if (type < 8) {
    const numbers = digits(type < 5 ? 1 : 2);
    // The body stands by itself.
    const rest = payload.slice(cursor.at_);
    const bytes = type % 2 || type > 6 ? undefined : rest;
    const head = [tag, ...numbers];
    const size = JSON.stringify(head).length + 1 + rest.length;
    return checked([...head, bytes ? 0 : JSON.parse(fromUtf8(rest))], size, rules, bounds, bytes);
  }
  if (type < 12 || type === 20) {
    const numbers = digits(2);
    return cursor.at_ < payload.length ? malformed() : checked([tag, ...numbers], 0, rules, bounds);
  }
  const value: unknown = JSON.parse(fromUtf8(payload.subarray(1)));
  if (type === 22 && !Array.isArray(value)) malformed();
  return checked(type === 22 ? [tag, ...(value as unknown[])] : [tag, value], 0, rules, bounds);
};

export const binary: Codec = {
  media_: MEDIA,
  stream_: MEDIA,
  sends_: MEDIA,
  encode_(frame) {
    const [tag, ...rest] = frame as readonly [string, ...unknown[]];
    let type = TAGS.indexOf(tag);
    const head: number[] = [];
    let tail: Uint8Array = new Uint8Array();
    if (isMessage(frame)) {
      const [, seq, re, body] = frame;
      varint(seq, head);
      if (re) varint(re, head);
      if (typeof body === "string") tail = toUtf8(body);
      else {
        tail = body as Uint8Array;
        type++;
      }
    } else if (type < 12 || type === 20) {
      for (const part of rest) varint(part as number, head);
    } else {
      tail = toUtf8(JSON.stringify(type === 22 ? rest : rest[0]));
    }
    const front: number[] = [];
    varint(1 + head.length + tail.length, front);
    return concat([Uint8Array.from([...front, type, ...head]), tail]);
  },
  join_: (parts) => concat(parts as readonly Uint8Array[]),
  decode_(batch, take, rules = fromServer, bounds = limits) {
    // In one encoding there is no text.
    const bytes = typeof batch === "string" ? malformed() : new Uint8Array(batch);
    if (bytes.length > bounds.batch_ || frames(bytes, take, rules, bounds).length) malformed();
  },
  reader_(take) {
    let rest = new Uint8Array();
    return (piece = new Uint8Array()) => {
      // A stream has no batches, so each piece may have as many frames as one.
      rest = frames(rest.length ? concat([rest, piece]) : piece, take, fromServer, { ...limits, frames_: Infinity }).slice();
    };
  },
};

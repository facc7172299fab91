/**
 * What frames are, whatever encodes them, and which of them a client takes.
 *
 * A frame is a tuple, its tag first, as on the wire. It implements `docs/PROTOCOL.md`, "Frames". It knows no clock and
 * no transport.
 */

/** A kind of transport, by its word on the wire. */
export type TransportKind = "websocket" | "sse" | "long-polling";

/** How much an end holds for its application. */
export interface Window {
  readonly messages: number;
  readonly bytes: number;
}

/** What was received in order, and how much of it the application has taken; left out when equal. */
export interface Receipt {
  readonly received: number;
  readonly taken?: number | null;
}

export interface Hello extends Receipt {
  readonly version: number;
  readonly session: string;
  readonly key: string;
  readonly epoch?: string;
  readonly attachment: number;
  readonly transport: TransportKind;
  readonly window: Window;
  readonly candidate?: boolean;
  readonly auth?: unknown;
}

export interface Welcome extends Receipt {
  readonly session: string;
  readonly epoch: string;
  readonly attachment: number;
  readonly resumed: boolean;
  readonly window: Window;
  readonly heartbeat_ms: number;
  readonly resume_window_ms: number;
  readonly max_message_bytes: number;
  readonly max_batch_bytes: number;
  readonly transports: readonly TransportKind[];
  readonly auth_expires_ms?: number | null;
}

export interface Move {
  readonly transport?: TransportKind | null;
  readonly within_ms: number;
}

export interface Push {
  readonly session: string;
  readonly key: string;
  readonly epoch: string;
  readonly attachment: number;
}

export interface Poll extends Push, Receipt {
  readonly hold_ms: number;
}

export interface CloseDetail {
  readonly received?: number | null;
  readonly attachment?: number | null;
  readonly retry_after_ms?: number | null;
}

/** The frames that carry a body. */
export type MessageTag = "msg" | "req" | "res" | "err";

/** A body on its way out: JSON as its text, or bytes. */
export type Packed = string | Uint8Array;

/**
 * A message: its number, the request that it answers or 0, its body, and the size of that in bytes. A body on its way
 * out is {@link Packed}; one that came is a value, or bytes.
 */
export type MessageFrame = readonly [tag: MessageTag, seq: number, re: number, body: unknown, size: number];
export type CloseFrame = readonly [tag: "close", code: string, reason?: string, detail?: CloseDetail];

export type Frame =
  | MessageFrame
  | CloseFrame
  | readonly [tag: "ack", received: number, taken?: number]
  | readonly [tag: "ping" | "pong", number?: number]
  | readonly [tag: "closing"]
  | readonly [tag: "auth", token: unknown]
  | readonly [tag: "auth_ok", expires_ms: number]
  | readonly [tag: "hello", hello: Hello]
  | readonly [tag: "welcome", welcome: Welcome]
  | readonly [tag: "attach", receipt: Receipt]
  | readonly [tag: "move", move: Move]
  | readonly [tag: "poll", poll: Poll]
  | readonly [tag: "push", push: Push];

/** What a decoder takes at most. */
export interface Limits {
  readonly message_: number;
  readonly batch_: number;
  readonly frames_: number;
}

export const limits: Limits = { message_: 512 << 10, batch_: 960 << 10, frames_: 1024 };

/** How frames are written and read. Decoders throw at malformed input, what stood before it having been given out. */
export interface Codec {
  /** The media type of a single answer and of a stream. */
  readonly media_: string;
  readonly stream_: string;
  /** The media type of a request. */
  readonly sends_: string;
  encode_(frame: Frame): Packed;
  /** Joins encoded frames to a batch. */
  join_(frames: readonly Packed[]): Packed;
  decode_(batch: string | ArrayBuffer, take: (frame: Frame) => void, rules?: Rules, limits?: Limits): void;
  /** Reads frames in pieces, wherever they are cut; the end is no piece. Without it they stand on lines. */
  reader_?(take: (frame: Frame) => void): (piece?: Uint8Array) => void;
}

/** Which frames may come: a tag, a space, and a letter for each element behind it as {@link letter} gives it. */
export type Rules = RegExp;

export const malformed = (): never => {
  throw new SyntaxError("malformed");
};

const isNumber = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown): value is string => typeof value === "string";

/** What an element is: 0, another number, the word for bytes, one that may be a close code, text, an object that says
 * nothing impossible, or something else. */
const letter = (value: unknown): number | string =>
  isNumber(value)
    ? value
      ? 1
      : 0
    : isText(value)
      ? value === "base64"
        ? "b"
        : /^[-a-z0-9_.]{1,64}$/.test(value)
          ? "c"
          : "t"
      : isSound(value as Receipt & Push)
        ? "o"
        : "?";

/** Whether it is an object whose numbers are legal. What is missing, or of another type, its reader finds out. */
const isSound = (value: (Receipt & Push) | null): boolean =>
  value instanceof Object &&
  !Array.isArray(value) &&
  value.attachment !== 0 &&
  // Nothing is taken that was not received.
  !(value.taken! > value.received) &&
  Object.values(value).every((member) => typeof member !== "number" || isNumber(member));

/** What a server sends. */
export const fromServer: Rules =
  /^((msg|req) 1.b?|res 11.b?|err 11.|ack [01]{1,2}|p[io]ng [01]?|closing |close [bc]([bct]o?)?|auth_ok [01]|(move|welcome) o)$/;

/** The deepest that JSON nests: a body, and the object of a control frame. */
export const isDeep = (value: unknown, depth: number): boolean =>
  value instanceof Object &&
  (depth < 1 || Object.values(value).some((inner) => isDeep(inner, depth - 1)));

export const isMessage = (frame: Frame): frame is MessageFrame => /^(msg|re[qs]|err)$/.test(frame[0]);

/**
 * Checks the elements of a frame; undefined is a frame of an extension. `size` is what it has in JSON, without needless
 * space, and `bytes` its body if that was not JSON.
 */
export const checked = (
  elements: unknown,
  size: number,
  rules: Rules,
  limits: Limits,
  bytes?: Uint8Array,
): Frame | undefined => {
  if (!Array.isArray(elements)) return malformed();
  const [tag, ...rest] = elements as [string, ...unknown[]];
  if (tag.startsWith("x-")) return undefined;
  const frame = elements as unknown as Frame;
  const carries = isMessage(frame);
  if (!rules.test(tag + " " + rest.map(letter).join("")) || isDeep(elements, carries ? 129 : 130)) malformed();
  if (carries) {
    const at = /^(res|err)/.test(tag) ? 2 : 1;
    let body = bytes ?? rest[at];
    if (rest.length > at + 1) body = fromBase64(body);
    size = body instanceof Uint8Array ? body.length : size - JSON.stringify(elements.slice(0, at + 1)).length - 1;
    if (size > limits.message_) malformed();
    return [frame[0], frame[1], at > 1 ? frame[2] : 0, body, size];
  }
  if (tag === "ack" && (rest[1] as number) > (rest[0] as number)) malformed();
  return frame;
};

const fromBase64 = (text: unknown): Uint8Array => {
  const bytes = isText(text) ? Uint8Array.from(atob(text as string), (char) => char.charCodeAt(0)) : malformed();
  // `atob` is lenient.
  return toBase64(bytes) === text ? bytes : malformed();
};

export const toBase64 = (bytes: Uint8Array): string => {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
};

const encoder = new TextEncoder();
export const toUtf8 = (text: string): Uint8Array => encoder.encode(text);
/** Throws at what is not UTF-8. */
export const fromUtf8 = (bytes: ArrayBuffer | Uint8Array): string =>
  new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

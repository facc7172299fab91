/** Payloads of rooms, read and written. `docs/PROTOCOL.md`, "Rooms". It knows no socket and no room. */

/** A place in what was said in a room: behind the message of that offset. Offsets of different epochs are not compared. */
export interface Position {
  /** Which life of the room. */
  readonly epoch: string;
  readonly offset: number;
}

/** A principal with all its sessions, or a session of no principal. */
export type Who = { readonly principal: string } | { readonly session: string };

/** Somebody who is in a room. */
export interface Member<Meta = unknown> {
  readonly who: Who;
  /** What it tells of itself. */
  readonly meta?: Meta;
}

/** Why something is not, or no longer, to be. */
export interface Refusal {
  readonly room: string;
  readonly code: string;
  readonly message: string;
}

/** What a server tells of rooms. */
export type Notice =
  | { readonly $: "begin"; readonly room: string; readonly epoch: string; readonly at: number; readonly recovered: boolean; readonly ref?: string | null }
  | { readonly $: "msg"; readonly room: string; readonly at: number; readonly key?: string; readonly by?: Who; readonly body: unknown }
  | { readonly $: "missed"; readonly room: string; readonly count: number; readonly to: number }
  | { readonly $: "present"; readonly room: string; readonly members: readonly Member[]; readonly first: boolean; readonly last: boolean }
  | { readonly $: "joined" | "updated"; readonly room: string; readonly member: Member }
  | { readonly $: "gone"; readonly room: string; readonly who: Who }
  | ({ readonly $: "left" | "failed" } & Refusal)
  | { readonly $: "kept"; readonly epoch: string; readonly offset: number; readonly body: unknown };

/** A body that was looked at. */
export type Read =
  | readonly [kind: "app", body: unknown]
  | readonly [kind: "notice", notice: Notice]
  | readonly [kind: "unknown" | "malformed", tag: string];

type Data = Record<string, unknown>;
type Check = (value: unknown) => boolean;

const MARK = 0x24;
const HEAD = '{"$":';

const isObject = (value: unknown): value is Data => typeof value === "object" && value !== null && !Array.isArray(value);
/** Whether an object that was read began with the mark: who sends wraps all that only looks so. */
const isMarked = (value: unknown): value is Data => isObject(value) && !(value instanceof Uint8Array) && Object.keys(value)[0] === "$";

const isText: Check = (value) => typeof value === "string";
const isFlag: Check = (value) => typeof value === "boolean";
const isNumber: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isEpoch: Check = (value) => isText(value) && /^[\w-]{10}[AEIMQUYcgkosw048]$/.test(value as string);
const isName: Check = (value) => isText(value) && !!value && new TextEncoder().encode(value as string).length <= 256;
const isWho: Check = (value) => {
  if (!isObject(value)) return false;
  const [[kind, name] = [], more] = Object.entries(value);
  return !more && isText(name) && (kind === "principal" || (kind === "session" && /^[\w-]{21}[AQgw]$/.test(name as string)));
};
const isMember: Check = (value) => isObject(value) && isWho(value["who"]);
const isMembers: Check = (value) => Array.isArray(value) && value.every(isMember);
const optional =
  (check: Check): Check =>
  (value) =>
    value == null || check(value);
const isStated: Check = (value) => value !== undefined;

const refusal = { code: isText, message: isText };
const shapes: Record<string, Record<string, Check>> = {
  begin: { room: isName, epoch: isEpoch, at: isNumber, recovered: isFlag, ref: optional(isText) },
  msg: { room: isName, at: isNumber, key: optional(isText), by: optional(isWho), body: isStated },
  missed: { room: isName, count: (value) => Number.isInteger(value) && (value as number) >= 0, to: isNumber },
  present: { room: isName, members: isMembers, first: isFlag, last: isFlag },
  joined: { room: isName, member: isMember },
  updated: { room: isName, member: isMember },
  gone: { room: isName, who: isWho },
  left: { room: isName, ...refusal },
  failed: { room: isText, ...refusal },
  kept: { epoch: isEpoch, offset: isNumber, body: isStated },
  app: { body: isStated },
};

/** The head of a binary payload with what stands behind it as its body. */
const open = (bytes: Uint8Array): Data => {
  const from = 3;
  const to = from + (bytes[1]! << 8) + bytes[2]!;
  if (!(to <= bytes.length)) throw new SyntaxError("cut short");
  const head = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(from, to));
  const data = JSON.parse(head) as Data;
  if (!head.startsWith(HEAD)) throw new SyntaxError("no head");
  // It has one body.
  return { ...data, body: "body" in data ? undefined : bytes.slice(to) };
};

/** Looks at a body that came from a server. */
export const read = (body: unknown): Read => {
  let data = body;
  if (body instanceof Uint8Array) {
    if (body[0] !== MARK) return ["app", body];
    try {
      data = open(body);
    } catch {
      return ["malformed", ""];
    }
  }
  if (!isMarked(data)) return ["app", body];
  const tag = data["$"];
  if (typeof tag !== "string") return ["malformed", ""];
  if (!Object.hasOwn(shapes, tag)) return ["unknown", tag];
  for (const [name, check] of Object.entries(shapes[tag]!)) if (!check(data[name])) return ["malformed", tag];
  return tag === "app" ? ["app", data["body"]] : ["notice", data as Notice];
};

/** Writes a payload. A body of bytes stands behind its head. */
export const write = (tag: string, members: Data, ...body: [body?: unknown]): unknown => {
  const head = { $: tag, ...members };
  if (!body.length) return head;
  const [inner] = body;
  if (!(inner instanceof Uint8Array)) return { ...head, body: inner };
  const text = new TextEncoder().encode(JSON.stringify(head));
  const bytes = new Uint8Array(3 + text.length + inner.length);
  bytes.set([MARK, text.length >> 8, text.length & 255]);
  bytes.set(text, 3);
  bytes.set(inner, 3 + text.length);
  return bytes;
};

/** A body of the application as it must be sent: wrapped if a reader would take it for one of ours. */
export const escape = (body: unknown): unknown => {
  const looksSo =
    body instanceof Uint8Array
      ? body[0] === MARK
      : isObject(body) && ("$" in body || "toJSON" in body) && JSON.stringify(body)?.startsWith(HEAD);
  return looksSo ? write("app", {}, body) : body;
};

/** A message of a page of history: bytes came as base64. */
export const readSaid = (message: unknown): Notice & { $: "msg" } => {
  const [, notice] = read(typeof message === "string" ? Uint8Array.from(atob(message), (char) => char.charCodeAt(0)) : message) as Read;
  if (!isObject(notice) || notice["$"] !== "msg") throw new SyntaxError("not a message of a room");
  return notice as unknown as Notice & { $: "msg" };
};

/** Replays `tests/vectors/rooms.json`: payloads of rooms, as any client or server of the layer reads and writes them. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mock, test } from "node:test";
import type { Socket } from "../src/index.js";
import { type JoinOptions, rooms } from "../src/rooms.js";
import { escape, read, readSaid } from "../src/rooms/payload.js";

interface Input {
  readonly text?: string;
  readonly hex?: string;
}
interface Says extends Input, JoinOptions {
  readonly $: string;
  readonly room: string;
  readonly ref?: string;
  readonly key?: string;
  readonly body?: unknown;
  readonly limit?: number;
}
interface Vectors {
  readonly operations: readonly (Input & { readonly name: string; readonly says: Says })[];
  readonly notices: readonly (Input & { readonly name: string; readonly means: Says; readonly only?: string })[];
  readonly app: readonly (Input & { readonly sent: Input })[];
  readonly refused: readonly (Input & { readonly from: string; readonly tag: string })[];
  readonly unknown: readonly (Input & { readonly tag: string })[];
  readonly pages: readonly { readonly text: string; readonly means: readonly Says[] }[];
}
const vectors = JSON.parse(readFileSync("../tests/vectors/rooms.json", "utf8")) as Vectors;

const unhex = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));
const bodyOf = ({ text, hex }: Input): unknown => (hex === undefined ? JSON.parse(text!) : unhex(hex));
/** As it stands on the wire. */
const written = (body: unknown): Input => (body instanceof Uint8Array ? { hex: Buffer.from(body).toString("hex") } : { text: JSON.stringify(body) });
/** What was read, in the words of a vector. */
const words = (payload: object): object => {
  const { body, later: _, ...rest }: Record<string, unknown> = Object.fromEntries(Object.entries(payload).filter(([name, value]) => value !== null || name === "body" || name === "meta"));
  if (body instanceof Uint8Array) return { ...rest, ...written(body) };
  return "body" in payload ? { ...rest, body } : rest;
};

test("operations are written byte by byte", async () => {
  const random = mock.method(Math, "random", () => 0.5);
  const bodies: unknown[] = [];
  const socket = rooms({ on: () => () => undefined, request: async (body: unknown) => (bodies.push(body), { messages: [] }) } as unknown as Socket<unknown, unknown>);
  for (const { name, says, text, hex } of vectors.operations) {
    const { $: tag, room: of, key, ref, ...rest } = says;
    const room = socket.room(of);
    const acts: Record<string, () => Promise<unknown>> = {
      join: () => room.join(rest),
      leave: () => room.leave(),
      publish: () => room.publish("body" in says ? says.body : unhex(says.hex!), { ...(key !== undefined && { key }) }),
      meta: () => room.update(rest.meta),
      presence: async () => void room.presence(),
      history: () => room.history(rest),
    };
    await acts[tag]!();
    const { [0]: body } = bodies.splice(0) as [object];
    // Ours names all its joins.
    if (tag === "join" && ref === undefined) delete (body as { ref?: string }).ref;
    assert.deepEqual(written(body), text === undefined ? { hex } : { text }, name);
  }
  random.mock.restore();
});

test("notices are read as what they mean", () => {
  for (const vector of vectors.notices) {
    const [kind, notice] = read(bodyOf(vector));
    assert.equal(kind, "notice", vector.name);
    assert.deepEqual(words(notice as object), vector.means, vector.name);
  }
});

test("bodies of the application are wrapped where they look like the layer's", () => {
  for (const vector of vectors.app) {
    const body = bodyOf(vector);
    const sent = bodyOf(vector.sent);
    assert.deepEqual(written(escape(body)), written(sent));
    assert.deepEqual(read(sent), ["app", body]);
  }
  // What writes itself as JSON decides by what it writes.
  assert.deepEqual(written(escape({ toJSON: () => ({ $: 1 }) })), { text: '{"$":"app","body":{"$":1}}' });
  assert.deepEqual(written(escape({ $: 1, toJSON: () => 7 })), { text: "7" });
});

test("what is not well made is refused by its tag", () => {
  const refused = vectors.refused.filter(({ from }) => from === "server");
  assert.ok(refused.length > 30);
  for (const vector of refused) assert.deepEqual(read(bodyOf(vector)), ["malformed", vector.tag], JSON.stringify(vector));
});

test("unknown tags are passed over", () => {
  for (const vector of vectors.unknown) assert.deepEqual(read(bodyOf(vector)), ["unknown", vector.tag]);
});

test("pages of history hold the messages", () => {
  for (const { text, means } of vectors.pages) {
    const { messages } = JSON.parse(text) as { messages: unknown[] };
    assert.deepEqual(messages.map((message) => words(readSaid(message))), means);
  }
});

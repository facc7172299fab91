/** The hooks, in a DOM without a browser, under StrictMode. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { JSDOM } from "jsdom";
import type { ReactNode } from "react";
import type { Socket, State } from "../src/index.js";
import type { Room } from "../src/rooms.js";

const dom = new JSDOM("<!doctype html><div id=root></div>");
Object.assign(globalThis, { window: dom.window, document: dom.window.document, navigator: dom.window.navigator, IS_REACT_ACT_ENVIRONMENT: true });
const { act, StrictMode } = await import("react");
const { createRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const { useConnection, useMessages, useRequest, useRoom } = await import("../src/react.js");

/** A socket that does what it is told, and counts who listens. */
const fake = () => {
  const listeners = { message: new Set<(event: never) => void>(), state: new Set<(event: never) => void>() };
  const asked: { body: unknown; resolve: (answer: unknown) => void; reject: (error: unknown) => void; signal?: AbortSignal }[] = [];
  const socket = {
    state: { status: "connecting" } as State,
    on(name: "message" | "state", listener: (event: never) => void) {
      listeners[name].add(listener);
      return () => void listeners[name].delete(listener);
    },
    request: (body: unknown, { signal }: { signal?: AbortSignal } = {}) =>
      new Promise((resolve, reject) => asked.push({ body, resolve, reject, ...(signal && { signal }) })),
  };
  return {
    socket: socket as unknown as Socket<string, string>,
    asked,
    become(state: State) {
      socket.state = state;
      for (const listener of listeners.state) listener(state as never);
    },
    tell(body: string) {
      for (const listener of listeners.message) listener({ body } as never);
    },
    listening: () => [listeners.message.size, listeners.state.size],
  };
};

let root: ReturnType<typeof createRoot>;
const shown = () => document.getElementById("root")!.textContent;
const render = (node: ReactNode) => act(async () => root.render(<StrictMode>{node}</StrictMode>));
beforeEach(() => {
  root = createRoot(document.getElementById("root")!);
});
afterEach(() => act(async () => root.unmount()));

test("a component shows the state of the connection, and stops listening when it goes", async () => {
  const { socket, become, listening } = fake();
  const Shows = () => <p>{useConnection(socket).status}</p>;
  await render(<Shows />);
  assert.equal(shown(), "connecting");
  await act(async () => become({ status: "connected", transport: "sse" }));
  assert.equal(shown(), "connected");
  assert.deepEqual(listening(), [0, 1]);
  await render(null);
  assert.deepEqual(listening(), [0, 0]);
});

test("messages are shown once each under StrictMode, the latest of them", async () => {
  const { socket, tell, listening } = fake();
  const Shows = () => <p>{useMessages(socket, 3).join(" ")}</p>;
  await render(<Shows />);
  assert.deepEqual(listening(), [1, 0]);
  for (const text of ["a", "b"]) await act(async () => tell(text));
  assert.equal(shown(), "a b");
  await act(async () => ["c", "d"].forEach(tell));
  assert.equal(shown(), "b c d");
  await render(null);
  assert.deepEqual(listening(), [0, 0]);
});

test("another socket begins with no messages", async () => {
  const [one, two] = [fake(), fake()];
  const Shows = ({ socket }: { socket: Socket<string, string> }) => <p>{useMessages(socket).join(" ")}</p>;
  await render(<Shows socket={one.socket} />);
  await act(async () => one.tell("a"));
  await render(<Shows socket={two.socket} />);
  assert.equal(shown(), "");
  assert.deepEqual(one.listening(), [0, 0]);
  await act(async () => two.tell("b"));
  assert.equal(shown(), "b");
});

test("the latest request counts, and a component that is gone waits for none", async () => {
  const { socket, asked } = fake();
  let ask: (body: string) => void = () => assert.fail();
  const Shows = () => {
    const [send, state] = useRequest(socket);
    ask = send;
    return <p>{state.status === "answered" ? state.answer : state.status === "failed" ? String(state.error) : state.status}</p>;
  };
  await render(<Shows />);
  assert.equal(shown(), "idle");
  await act(async () => ask("one"));
  await act(async () => ask("two"));
  assert.equal(shown(), "pending");
  assert.deepEqual(asked.map(({ signal }) => signal!.aborted), [true, false]);
  await act(async () => asked[1]!.resolve("the second"));
  await act(async () => asked[0]!.resolve("the first"));
  assert.equal(shown(), "the second");
  await act(async () => ask("three"));
  await act(async () => asked[2]!.reject(new Error("no")));
  assert.equal(shown(), "Error: no");
  await act(async () => ask("four"));
  await render(null);
  assert.equal(asked[3]!.signal!.aborted, true);
});

test("on a server they render what there is", () => {
  const { socket } = fake();
  const Shows = () => (
    <p>
      {useConnection(socket).status} {useMessages(socket).length}
    </p>
  );
  assert.match(renderToString(<Shows />), /connecting.*0/);
});

/** A room that does what it is told. */
const fakeRoom = () => {
  const listeners: Record<string, Set<(event: never) => void>> = { message: new Set(), presence: new Set(), missed: new Set(), left: new Set() };
  const acts: unknown[] = [];
  let position: object | undefined;
  let refuse: (error: unknown) => void = () => undefined;
  const room = {
    members: [],
    join: (options: object) => (acts.push(options), new Promise((_, reject) => (refuse = reject))),
    leave: async () => void acts.push("leave"),
    update: async (meta: unknown) => void acts.push(["update", meta]),
    get position() {
      return position;
    },
    on(name: string, listener: (event: never) => void) {
      listeners[name]!.add(listener);
      return () => void listeners[name]!.delete(listener);
    },
  };
  return {
    room: room as unknown as Room<string>,
    acts,
    refuse: (error: unknown) => refuse(error),
    stand: (at: object) => (position = at),
    tell: (name: string, event: unknown) => listeners[name]!.forEach((listener) => listener(event as never)),
    listening: () => Object.values(listeners).map(({ size }) => size),
  };
};

test("a room is joined while components use it, and they show what it tells", async () => {
  const { room, acts, tell, listening } = fakeRoom();
  const Shows = () => {
    const { messages, members, missed } = useRoom(room, { presence: true });
    return <p>{`${messages.map(({ body }) => body).join(" ")} (${missed}) ${members.length} here. `}</p>;
  };
  await render([<Shows key="a" />, <Shows key="b" />]);
  // StrictMode has tried it out, and nobody was told: with history it would come twice.
  assert.deepEqual(acts.splice(0), [{ presence: true }]);
  await act(async () => {
    tell("message", { body: "a" });
    tell("missed", { count: 2 });
    tell("message", { body: "b" });
    tell("presence", { members: [1, 2] });
  });
  assert.equal(shown(), "a b (2) 2 here. a b (2) 2 here. ");
  await act(async () => tell("missed", { count: undefined }));
  assert.equal(shown(), "a b (undefined) 2 here. a b (undefined) 2 here. ");
  await render([<Shows key="a" />]);
  assert.deepEqual(acts, []);
  await render(null);
  assert.deepEqual(acts, ["leave"]);
  assert.deepEqual(listening(), [0, 0, 0, 0]);
});

test("a room that refuses says why", async () => {
  const { room, refuse, tell } = fakeRoom();
  const Shows = () => <p>{String((useRoom(room).error as { code?: string } | undefined)?.code)}</p>;
  await render(<Shows />);
  assert.equal(shown(), "undefined");
  await act(async () => refuse({ code: "forbidden" }));
  assert.equal(shown(), "forbidden");
  await act(async () => tell("left", { code: "no_room" }));
  assert.equal(shown(), "no_room");
  assert.match(renderToString(<Shows />), /undefined/);
});

test("options that change take effect at once, and the same ones anew do nothing", async () => {
  const { room, acts, stand, refuse } = fakeRoom();
  const Shows = ({ doing, presence = false }: { doing: string; presence?: boolean }) => (
    <p>{String((useRoom(room, { last: 5, presence, meta: { doing } }).error as { code?: string } | undefined)?.code)}</p>
  );
  await render(<Shows doing="reading" />);
  const first = { last: 5, presence: false, meta: { doing: "reading" } };
  assert.deepEqual(acts.splice(0), [first]);
  await render(<Shows doing="reading" />);
  assert.deepEqual(acts.splice(0), []);
  await render(<Shows doing="typing" />);
  assert.deepEqual(acts.splice(0), [["update", { doing: "typing" }]]);
  stand({ epoch: "e", offset: 7 });
  await render(<Shows doing="typing" presence />);
  assert.deepEqual(acts.splice(0), [{ last: 5, presence: true, meta: { doing: "typing" }, since: { epoch: "e", offset: 7 } }]);
  assert.equal(shown(), "undefined");
  await act(async () => refuse({ code: "forbidden" }));
  assert.equal(shown(), "forbidden");
  // Another one in its place, which wants something else.
  await render(<Shows key="other" doing="typing" />);
  assert.deepEqual(acts.splice(0), [{ last: 5, presence: false, meta: { doing: "typing" } }]);
  await render(null);
  assert.deepEqual(acts.splice(0), ["leave"]);
});

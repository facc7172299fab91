/** The public API as its users see it: this file only has to compile, and the marked lines must not. */

import { type Room, rooms } from "../src/rooms.js";
import { share } from "../src/shared.js";
import { binary, connect, connectWith, page, type Socket, sse, type State, ThroughlineError, websocket } from "../src/index.js";

interface Said {
  from: string;
}
interface Say {
  text: string;
}

export const use = async (): Promise<void> => {
  const socket: Socket<Said, Say> = connect<Said, Say>("/live", { token: async () => "t", transports: ["sse"] });
  socket.send({ text: "hello" });
  // @ts-expect-error It is not what the server takes.
  socket.send({ txt: "hello" });
  const answer: Said = await socket.request({ text: "time?" }, { signal: new AbortController().signal });
  const other = await socket.request<number>({ text: "number?" });
  other.toFixed();
  // @ts-expect-error It is what the server says.
  answer.text.trim();
  const stop: () => void = socket.on("message", ({ body, isRequest, reply }) => isRequest && reply({ text: body.from }));
  stop();
  socket.on("state", (state: State) => {
    if (state.status === "connected") state.transport.trim();
    // @ts-expect-error Only a connection has a transport.
    else state.transport.trim();
    if (state.status === "reconnecting") new Date(state.retryAt ?? 0).getTime();
  });
  socket.on("lost", ({ unknown }) => unknown.map(({ text }) => text));
  socket.on("resumed", (kind) => kind.trim());
  // @ts-expect-error There is no such event.
  socket.on("open", () => undefined);
  for await (const { body } of socket) body.from.trim();
  await socket.deliver({ text: "bye" });
  await socket.close("normal", "bye");
  connectWith<Said, Say>("/live", [websocket, sse, page]).moveTo("sse");
  // @ts-expect-error A transport is a value here, so that others can be left out.
  connectWith("/live", ["sse"]);
  // @ts-expect-error A state is not to be changed.
  socket.state = { status: "connecting" };
  const bytes = connect<Uint8Array, Uint8Array>("/live", { encoding: binary, outbox: { messages: 10, bytes: 1000 } });
  bytes.send(new Uint8Array(3));
  const { code }: ThroughlineError = new ThroughlineError("full", "not sent");
  if (code === "full") return;
  const tabs = share<Said, Say>("chat", (parts) => connect("/live", { parts }));
  tabs.send({ text: "to all" });
  tabs.on("message", ({ body, reply }) => reply?.({ text: body.from }));
  // @ts-expect-error The session is not this tab's to close.
  tabs.close();
  tabs.leave();
  const live = rooms(connect<Said, Say>("/live"));
  live.send({ text: "still the application's" });
  live.on("kept", ({ body }) => body.from.trim());
  const lobby: Room<Said, Say, { color: string }> = live.room("lobby");
  await lobby.join({ last: 10, presence: true, meta: { color: "red" } });
  // @ts-expect-error It is not what one tells of oneself here.
  await lobby.update("red");
  // @ts-expect-error It is not what is said here.
  await lobby.publish({ from: "me" });
  const position = await lobby.publish({ text: "hi" }, { key: "k" });
  position?.offset.toFixed();
  lobby.on("missed", ({ count }) => {
    // @ts-expect-error Nobody may know.
    count.toFixed();
  });
  for (const { meta } of lobby.members) meta?.color.trim();
  for await (const { body, by } of lobby) if (by && "principal" in by) by.principal.concat(body.from);
};

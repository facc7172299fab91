/**
 * Rooms over a socket: `throughline/rooms`. `docs/PROTOCOL.md`, "Rooms".
 *
 * ```ts
 * const socket = rooms(connect("/live"));
 * const lobby = socket.room<Said>("lobby");
 * lobby.on("message", ({ body, by }) => show(body, by));
 * lobby.on("presence", ({ members }) => showMembers(members));
 * await lobby.join({ last: 20, presence: true });
 * await lobby.publish({ text: "hello" });
 * ```
 */

import { createOutlet } from "./rooms/outlet.js";
import { escape, type Notice, type Position, read } from "./rooms/payload.js";
import { createRoom, type Inner, type Room, UNANSWERED, type Wire } from "./rooms/room.js";
import type { Events, Socket } from "./socket/api.js";
import type { ThroughlineError } from "./error.js";
import type { SharedEvents, SharedSocket } from "./shared.js";

export type { Member, Position, Who } from "./rooms/payload.js";
export type {
  Begun,
  HistoryPage,
  JoinOptions,
  Presence,
  Room,
  RoomErrorCode,
  RoomEvents,
  RoomMessage,
  RoomMissed,
} from "./rooms/room.js";

/** What a socket with rooms tells besides. */
export interface SocketEvents<In, Out> extends Events<In, Out> {
  /** What was kept for this principal while it had no session. */
  kept: { readonly body: In; readonly position: Position };
}

/** What a shared socket with rooms tells besides. */
export interface SharedRoomsEvents<In, Out> extends SharedEvents<In, Out> {
  /** What was kept for this principal while it had no session: every tab hears it. */
  kept: SocketEvents<In, Out>["kept"];
}

/** Any socket with rooms. */
interface WithRooms {
  /** The room of this name: the same object for the same name. */
  room<RoomIn = unknown, RoomOut = RoomIn, Meta = unknown>(name: string): Room<RoomIn, RoomOut, Meta>;
}

/** A shared socket with rooms: each tab has its own, and the session is in a room as long as one of them is. */
export interface SharedRooms<In, Out> extends SharedSocket<In, Out>, WithRooms {
  on<Name extends keyof SharedRoomsEvents<In, Out>>(name: Name, listener: (event: SharedRoomsEvents<In, Out>[Name]) => void): () => void;
}

/** A socket with rooms. Its messages are the application's own; those of rooms come from the rooms. */
export interface RoomsSocket<In, Out> extends Socket<In, Out>, WithRooms {
  on<Name extends keyof SocketEvents<In, Out>>(name: Name, listener: (event: SocketEvents<In, Out>[Name]) => void): () => void;
}

/** When so much waits for those who iterate, or for the first who listens, no more is taken from the server. */
const MOST = 256;
/** How many rooms are taken up again at once: far fewer than requests may wait. */
const AT_ONCE = 16;

/** Rooms over a socket, which is then used through what this returns. */
export function rooms<In = unknown, Out = unknown>(socket: Socket<In, Out>): RoomsSocket<In, Out>;
export function rooms<In = unknown, Out = unknown>(socket: SharedSocket<In, Out>): SharedRooms<In, Out>;
export function rooms<In, Out>(below: Socket<In, Out> | SharedSocket<In, Out>): unknown {
  const isShared = "leads" in below;
  // What both can do is asked of both in the same way.
  const socket = below as Socket<In, Out>;
  type Heard = SocketEvents<In, Out>;
  type Listener<Name extends keyof Heard> = (event: Heard[Name]) => void;
  const table = new Map<string, readonly [room: unknown, inner: Inner]>();
  let kept: Position | undefined;
  let waiting = 0;
  /** What came by a session that was lost is taken whoever is slow. */
  let drains = false;
  let stop: (() => void) | undefined;

  const flow = (by: number) => {
    waiting += by;
    // A tab that is slow holds nobody back: the others hear the same.
    if (isShared || drains || waiting < MOST) stop ??= socket.on("message", hear);
    else {
      stop?.();
      stop = undefined;
    }
  };
  const outlet = createOutlet<Heard>({ change_: flow }, !isShared);
  const wire: Wire = {
    isShared_: isShared,
    change_: flow,
    async ask_(payload) {
      try {
        return await socket.request<unknown>(payload as Out);
      } catch (cause) {
        const { code, body } = cause as ThroughlineError;
        const { code: reason, message } = (body ?? {}) as { code?: string; message?: string };
        if (code !== "failed" || !reason) throw cause;
        // What the server says of rooms has codes of its own.
        throw new (cause as { constructor: typeof ThroughlineError }).constructor(reason, message, { cause });
      }
    },
    async deliver_(payload) {
      if (!isShared) return socket.deliver(payload as Out);
      try {
        // A notice that it was refused would be heard by all who share.
        await wire.ask_(payload);
      } catch (error) {
        // It goes on.
        if ((error as ThroughlineError).code !== UNANSWERED) throw error;
      }
    },
  };

  const tell = (notice: Notice) => {
    if (notice.$ !== "kept") return table.get(notice.room)?.[1].hear_(notice);
    const { epoch, offset, body } = notice;
    // A repeat, whose receipt was lost with a session.
    if (kept?.epoch === epoch && offset <= kept.offset) return;
    kept = { epoch, offset };
    outlet.emit_("kept", { body: body as In, position: kept });
  };
  const hear: Listener<"message"> = (message) => {
    const [kind, what] = read(message.body);
    if (kind === "app") outlet.emit_("message", what === message.body ? message : { ...message, body: what as In });
    else if (kind === "notice" && !message.isRequest) tell(what);
    else if (message.isRequest) message.fail(kind === "malformed" ? kind : "unknown", "");
  };

  socket.on("lost", (lost) => {
    const { unknown } = lost;
    const own = unknown.flatMap((body) => {
      const [kind, what] = read(body);
      return kind === "app" ? [what as Out] : [];
    });
    if (own.length && !outlet.hears_("lost")) console.warn("throughline: lost", own);
    outlet.emit_("lost", { ...lost, unknown: own });
    if ("scope" in lost && lost.scope === "message") return;
    // What the old session brought is heard first.
    drains = true;
    flow(0);
    queueMicrotask(() => {
      drains = false;
      flow(0);
      const again = [...table.values()].flatMap(([, inner]) => inner.lost_() ?? []);
      const next = async (): Promise<void> => {
        await again.shift()?.();
        if (again.length) await next();
      };
      for (let at = 0; at < AT_ONCE; at++) void next();
    });
  });
  socket.on("state", (state) => {
    if (state.status !== "closed") return;
    // What came before is heard first.
    queueMicrotask(() => {
      const reason = state.reason.code === "normal" ? undefined : state.reason;
      outlet.end_(reason);
      for (const [, inner] of table.values()) inner.closed_(reason);
    });
  });
  flow(0);

  const more: Partial<RoomsSocket<In, Out>> = {
    send: (body) => socket.send(escape(body) as Out),
    deliver: (body) => socket.deliver(escape(body) as Out),
    request: (body, options) => socket.request(escape(body) as Out, options),
    on: (name, listener) =>
      name === "message" || name === "lost" || name === "kept"
        ? outlet.on_(name, listener)
        : socket.on(name as keyof Events<In, Out>, listener as never),
    room<RoomIn, RoomOut, Meta>(name: string) {
      let entry = table.get(name);
      if (!entry) table.set(name, (entry = createRoom<RoomIn, RoomOut, Meta>(name, wire)));
      return entry[0] as Room<RoomIn, RoomOut, Meta>;
    },
    [Symbol.asyncIterator]: () => outlet.iterate_(),
  };
  // The rest is the socket's own.
  return Object.assign(Object.create(socket) as object, more);
}

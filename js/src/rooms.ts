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
import { createRoom, type Inner, type Room, type Wire } from "./rooms/room.js";
import type { Events, Socket } from "./socket/api.js";
import type { ThroughlineError } from "./error.js";

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

/** A socket with rooms. Its messages are the application's own; those of rooms come from the rooms. */
export interface RoomsSocket<In, Out> extends Socket<In, Out> {
  /** The room of this name: the same object for the same name. */
  room<RoomIn = unknown, RoomOut = RoomIn, Meta = unknown>(name: string): Room<RoomIn, RoomOut, Meta>;
  on<Name extends keyof SocketEvents<In, Out>>(name: Name, listener: (event: SocketEvents<In, Out>[Name]) => void): () => void;
}

/** When so much waits for those who iterate, or for the first who listens, no more is taken from the server. */
const MOST = 256;
/** How many rooms are taken up again at once: far fewer than requests may wait. */
const AT_ONCE = 16;

/** Rooms over a socket, which is then used through what this returns. */
export const rooms = <In = unknown, Out = unknown>(socket: Socket<In, Out>): RoomsSocket<In, Out> => {
  type Heard = SocketEvents<In, Out>;
  type Listener<Name extends keyof Heard> = (event: Heard[Name]) => void;
  const table = new Map<string, readonly [room: unknown, inner: Inner]>();
  let kept: Position | undefined;
  let waiting = 0;
  let stop: (() => void) | undefined;

  const flow = (by: number) => {
    waiting += by;
    if (waiting < MOST) stop ??= socket.on("message", hear);
    else {
      stop?.();
      stop = undefined;
    }
  };
  const outlet = createOutlet<Heard>({ change_: flow }, true);
  const wire: Wire = {
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
    deliver_: (payload) => socket.deliver(payload as Out),
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

  socket.on("lost", ({ reason, unknown }) => {
    const own = unknown.flatMap((body) => {
      const [kind, what] = read(body);
      return kind === "app" ? [what as Out] : [];
    });
    if (own.length && !outlet.hears_("lost")) console.warn("throughline: lost", own);
    outlet.emit_("lost", { reason, unknown: own });
    // What the old session brought is heard first.
    queueMicrotask(() => {
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

  return {
    get id() {
      return socket.id;
    },
    get state() {
      return socket.state;
    },
    get waiting() {
      return socket.waiting;
    },
    send: (body) => socket.send(escape(body) as Out),
    deliver: (body) => socket.deliver(escape(body) as Out),
    request: (body, options) => socket.request(escape(body) as Out, options),
    on: (name, listener) =>
      name === "message" || name === "lost" || name === "kept"
        ? outlet.on_(name, listener)
        : socket.on(name as keyof Events<In, Out>, listener as never),
    moveTo: (transport) => socket.moveTo(transport),
    close: (code, reason) => socket.close(code, reason),
    room<RoomIn, RoomOut, Meta>(name: string) {
      let entry = table.get(name);
      if (!entry) table.set(name, (entry = createRoom<RoomIn, RoomOut, Meta>(name, wire)));
      return entry[0] as Room<RoomIn, RoomOut, Meta>;
    },
    [Symbol.asyncIterator]: () => outlet.iterate_(),
  };
};

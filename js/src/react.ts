/**
 * React hooks over a socket, right under StrictMode and concurrent rendering: all reading is by `useSyncExternalStore`.
 *
 * A socket outlives components, so it is made outside of them, and given to the hooks:
 *
 * ```tsx
 * const socket = connect<FromServer, ToServer>("/live");
 *
 * const Chat = () => {
 *   const state = useConnection(socket);
 *   const messages = useMessages(socket);
 *   …
 * };
 * ```
 */

import { useCallback, useEffect, useInsertionEffect, useRef, useState, useSyncExternalStore } from "react";
import type { Member } from "./rooms/payload.js";
import type { JoinOptions, Room, RoomMessage } from "./rooms/room.js";
import type { Socket, State } from "./socket/api.js";

/** Whether something carries the session now; renders again at each change. */
export const useConnection = <In, Out>(socket: Socket<In, Out>): State => {
  const subscribe = useCallback((changed: () => void) => socket.on("state", changed), [socket]);
  const read = () => socket.state;
  return useSyncExternalStore(subscribe, read, read);
};

const NONE: readonly never[] = [];

/**
 * The messages that came since the component was mounted, oldest first: the latest `limit` of them (default 1,000).
 * A new array each time there is a new one; the same array otherwise.
 */
export const useMessages = <In, Out>(socket: Socket<In, Out>, limit = 1000): readonly In[] => {
  const [store] = useState(() => ({ of: socket, list: NONE as readonly In[] }));
  if (store.of !== socket) {
    store.of = socket;
    store.list = NONE;
  }
  const subscribe = useCallback(
    (changed: () => void) =>
      socket.on("message", ({ body }) => {
        store.list = [...store.list, body].slice(-limit);
        changed();
      }),
    [socket, store, limit],
  );
  return useSyncExternalStore(
    subscribe,
    () => store.list,
    () => NONE,
  );
};

/** How far a request is. */
export type Asked<Answer> =
  | { readonly status: "idle" }
  | { readonly status: "pending" }
  | { readonly status: "answered"; readonly answer: Answer }
  | { readonly status: "failed"; readonly error: unknown };

/**
 * A function that sends a request, and how far the latest one is. The answer to an earlier one, or to a component that
 * is gone, is discarded.
 */
export const useRequest = <In, Out, Answer = In>(
  socket: Socket<In, Out>,
): readonly [ask: (body: Out) => void, asked: Asked<Answer>] => {
  const [asked, setAsked] = useState<Asked<Answer>>({ status: "idle" });
  const control = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => control.current?.abort(), [socket]);
  const ask = useCallback(
    (body: Out) => {
      control.current?.abort();
      const { signal } = (control.current = new AbortController());
      setAsked({ status: "pending" });
      socket.request<Answer>(body, { signal }).then(
        (answer) => signal.aborted || setAsked({ status: "answered", answer }),
        (error: unknown) => signal.aborted || setAsked({ status: "failed", error }),
      );
    },
    [socket],
  );
  return [ask, asked];
};

/** How many components have a room joined. */
const users = new WeakMap<object, number>();
/** Rooms that the last has left in this turn, and how it had joined. */
const idle = new WeakMap<object, string>();

/** What a component knows of a room. */
export interface InRoom<In, Meta> {
  /** What was said since the component was mounted, oldest first, `last` of before included; the latest 1,000 at most. */
  readonly messages: readonly RoomMessage<In>[];
  /** Who is there, if `presence` was asked for. */
  readonly members: readonly Member<Meta>[];
  /** How many messages are known not to have come; undefined where nobody knows. */
  readonly missed: number | undefined;
  /** Why it could not be joined, or that one was taken out of it. */
  readonly error: unknown;
}

/**
 * A room, joined as long as components use it: the first that is mounted decides how, and the last that goes leaves. When `meta`
 * changes by its JSON, the room is told; when `presence` changes, it is joined anew from where it stands. Where to begin, `since`
 * and `last`, counts when it is joined.
 */
export const useRoom = <In, Out, Meta>(room: Room<In, Out, Meta>, options: JoinOptions<Meta> = {}): InRoom<In, Meta> => {
  const nothing: InRoom<In, Meta> = { messages: NONE, members: NONE, missed: 0, error: undefined };
  const [store] = useState(() => ({ of: room, now: nothing, options, applied: "" }));
  const { presence = false } = options;
  const meta = JSON.stringify(options.meta);
  const wanted = JSON.stringify([presence, meta]);
  useInsertionEffect(() => {
    store.options = options;
  });
  const [, setFailed] = useState({});
  if (store.of !== room) {
    store.of = room;
    store.now = nothing;
  }
  const subscribe = useCallback(
    (changed: () => void) => {
      const show = (more: Partial<InRoom<In, Meta>>) => {
        store.now = { ...store.now, ...more };
        changed();
      };
      const stops = [
        room.on("message", (message) => show({ messages: [...store.now.messages, message].slice(-1000) })),
        room.on("presence", ({ members }) => show({ members })),
        room.on("missed", ({ count }) => show({ missed: count === undefined ? count : store.now.missed === undefined ? undefined : store.now.missed + count })),
        room.on("left", (left) => left.code === "asked" || show({ error: left })),
      ];
      const count = users.get(room) ?? 0;
      users.set(room, count + 1);
      show({ members: room.members });
      store.applied = JSON.stringify([!!store.options.presence, JSON.stringify(store.options.meta)]);
      // Who comes back in the turn in which the last has gone, as under StrictMode, finds it joined.
      const stands = idle.get(room) === store.applied;
      idle.delete(room);
      if (!count && !stands) room.join(store.options).then(undefined, (error: unknown) => show({ error }));
      return () => {
        for (const stop of stops) stop();
        const others = users.get(room)! - 1;
        users.set(room, others);
        if (others) return;
        idle.set(room, store.applied);
        queueMicrotask(() => {
          // With a session that has ended it has been left too.
          if (idle.delete(room)) room.leave().catch(() => undefined);
        });
      };
    },
    [room, store],
  );
  const now = useSyncExternalStore(
    subscribe,
    () => store.now,
    () => nothing,
  );
  // Behind the effect that has joined it, which notes with what.
  useEffect(() => {
    if (store.applied === wanted) return;
    const [was] = JSON.parse(store.applied) as [boolean];
    store.applied = wanted;
    const { options } = store;
    const { position } = room;
    const done = was === presence ? room.update(options.meta) : room.join({ ...options, ...(position && { since: position }) });
    done.then(undefined, (error: unknown) => {
      // The room is taken up again with what it was told last.
      if ((error as { code?: unknown }).code === "lost") return;
      store.now = { ...store.now, error };
      setFailed({});
    });
  }, [room, store, presence, wanted]);
  return now;
};

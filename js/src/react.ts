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

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
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

/** What the application hears: those who listen, those who iterate, and messages that nobody has taken yet. */

import type { ThroughlineError } from "../error.js";
import type { Session } from "../session/session.js";
import type { Events, Message } from "./api.js";

/** What reading needs of a socket. */
export interface Reader {
  /** Notes that a message of a session was taken. */
  taken_(of: Session): void;
  /** Why the socket is closed, once it is. */
  closed_(): ThroughlineError | undefined;
}

export const createInlet = <In, Out>({ taken_, closed_ }: Reader) => {
  const listeners: Partial<Record<keyof Events<In, Out>, Set<(event: never) => void>>> = {};
  /** Messages that nobody has taken. */
  const incoming: (readonly [message: Message<In, Out>, of: Session])[] = [];
  let iterating = 0;
  const sleepers: (() => void)[] = [];

  const heardBy = (name: keyof Events<In, Out>) => [...(listeners[name] ?? [])];
  /** Tells all who listen; gives whether anybody does. */
  const emit = <Name extends keyof Events<In, Out>>(name: Name, event: Events<In, Out>[Name]): boolean => {
    const all = heardBy(name);
    for (const listener of all) {
      try {
        listener(event as never);
      } catch (error) {
        // The listener's own affair.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    return !!all[0];
  };
  /** Hands over what has come, and wakes who waits for it, or for the end. */
  const deliver = () => {
    while (incoming[0] && heardBy("message")[0] && !iterating) {
      const [message, of] = incoming.shift()!;
      taken_(of);
      emit("message", message);
    }
    for (const sleeper of sleepers.splice(0)) sleeper();
  };

  return {
    emit_: emit,
    deliver_: deliver,
    /** A message has come by a session. */
    push_: (message: Message<In, Out>, of: Session) => void incoming.push([message, of]),
    on_<Name extends keyof Events<In, Out>>(name: Name, listener: (event: Events<In, Out>[Name]) => void) {
      const all = (listeners[name] ??= new Set());
      all.add(listener);
      // Others that are set up now hear it too.
      if (name === "message") queueMicrotask(deliver);
      return () => void all.delete(listener);
    },
    async *iterate_() {
      iterating++;
      try {
        for (;;) {
          const next = incoming.shift();
          const reason = closed_();
          if (next) {
            emit("message", next[0]);
            taken_(next[1]);
            yield next[0];
          } else if (reason) {
            if (reason.code !== "normal") throw reason;
            return;
          } else await new Promise<void>((resolve) => sleepers.push(resolve));
        }
      } finally {
        iterating--;
        deliver();
      }
    },
  };
};

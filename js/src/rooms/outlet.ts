/** Where events come out: to those who listen, and to those who iterate over messages. */

/** How much waits in all outlets together: when it is too much, no more is taken from the socket. */
export interface Flow {
  change_(by: number): void;
}

interface Reader<T> {
  readonly queue_: T[];
  wake_?: () => void;
  /** There is no more behind what waits; perhaps for a reason. */
  ended_: readonly [error?: unknown] | undefined;
}

export interface Outlet<Events extends { message: unknown }> {
  emit_<Name extends keyof Events>(name: Name, event: Events[Name]): void;
  on_<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void;
  hears_(name: keyof Events): boolean;
  iterate_(): AsyncGenerator<Events["message"], void>;
  /** There is nothing more to iterate over, until it begins again; with an error, that is why. */
  end_(error?: unknown): void;
  begin_(): void;
}

/** With `keeps`, messages wait for the first who listens or iterates. */
export const createOutlet = <Events extends { message: unknown }>(flow: Flow, keeps = false): Outlet<Events> => {
  type Message = Events["message"];
  const listeners = new Map<keyof Events, Set<(event: never) => void>>();
  const readers = new Set<Reader<Message>>();
  const kept: Message[] = [];
  let ended: Reader<Message>["ended_"];

  const release = () => {
    while (kept.length && (readers.size || listeners.get("message")?.size)) {
      const [message] = kept.splice(0, 1);
      emit("message", message as Message);
      flow.change_(-1);
    }
  };
  const emit = <Name extends keyof Events>(name: Name, event: Events[Name]) => {
    for (const listener of [...(listeners.get(name) ?? [])]) {
      try {
        listener(event as never);
      } catch (error) {
        // The listener's own affair.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    if (name !== "message") return;
    for (const reader of readers) {
      reader.queue_.push(event);
      flow.change_(1);
      reader.wake_?.();
    }
  };

  return {
    emit_(name, event) {
      if (name === "message" && keeps && (kept.length || !(readers.size || listeners.get(name)?.size))) {
        kept.push(event);
        flow.change_(1);
        release();
      } else emit(name, event);
    },
    on_(name, listener) {
      const set = listeners.get(name) ?? new Set();
      listeners.set(name, set.add(listener));
      // Others that are set up now hear it too.
      if (name === "message") queueMicrotask(release);
      return () => void set.delete(listener);
    },
    hears_: (name) => !!listeners.get(name)?.size,
    async *iterate_() {
      const reader: Reader<Message> = { queue_: [], ended_: ended };
      readers.add(reader);
      release();
      try {
        for (;;) {
          if (reader.queue_.length) {
            const [message] = reader.queue_.splice(0, 1);
            flow.change_(-1);
            yield message as Message;
          } else if (reader.ended_) {
            if (reader.ended_[0]) throw reader.ended_[0];
            return;
          } else await new Promise<void>((resolve) => (reader.wake_ = resolve));
        }
      } finally {
        readers.delete(reader);
        flow.change_(-reader.queue_.length);
      }
    },
    end_(error) {
      ended = [error];
      for (const reader of readers) {
        reader.ended_ = ended;
        reader.wake_?.();
      }
    },
    begin_() {
      ended = undefined;
    },
  };
};

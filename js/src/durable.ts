/**
 * A session that survives a reload: `throughline/durable`.
 *
 * What was accepted is in IndexedDB before it is sent, with the session's id, key and numbers. After a reload the same
 * session goes on, so the server itself tells repeats by their numbers: each message arrives once.
 */

import type { Part } from "./index.js";
import type { Held } from "./session/outbox.js";
import { type Journal, type SavedState, savedOf, strand } from "./session/saved.js";
import type { Parts } from "./socket/parts.js";

/** How long to wait for the page before this one to let the store go. */
const PATIENCE = 5_000;
const META = 0;

const done = <T>(request: IDBRequest<T>) =>
  new Promise<T>((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Holds a lock until the returned function is called, where the browser has locks for this page. */
const hold = (name: string): Promise<() => void> =>
  new Promise((resolve, reject) => {
    const { locks } = navigator as { locks?: LockManager };
    if (!locks) return resolve(() => undefined);
    locks
      .request(name, { signal: AbortSignal.timeout(PATIENCE) }, () => new Promise<void>((release) => resolve(release)))
      .catch(reject);
  });

/** A journal in the store of that name, which nobody else may have open. */
export interface Store {
  readonly journal: Journal;
  /** What was noted beside the session. */
  readonly extra: unknown;
  close(): void;
}

/** What `note` gives is stored with every change of the session; `stored` hears what is. */
export const openStore = async (name: string, note: () => unknown, stored: (extra: unknown) => void, release = () => {}): Promise<Store> => {
  const opening = indexedDB.open(`throughline:${name}`, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("outbox");
  const db = await done(opening);
  const store = db.transaction("outbox").objectStore("outbox");
  const [meta, queue] = await Promise.all([
    done(store.get(META) as IDBRequest<readonly [SavedState, sent: number, extra: unknown] | undefined>),
    done(store.getAll(IDBKeyRange.lowerBound(META, true)) as IDBRequest<Held[]>),
  ]);

  let wake = () => {};
  let over = false;
  let writing = false;
  /** What is in the store, or on its way there. */
  let known = new Set<Held>();
  /** Whose it is, and up to which message it may have been sent. */
  let id: string | undefined;
  let sent = 0;
  let safe: readonly [sent: number, received: number] = [0, 0];
  let noted = "";
  if (meta) {
    const [state, mark] = meta;
    id = state[0];
    sent = mark;
    safe = [mark, state[4]];
    queue.forEach((held, at) => (held[1] = state[5] + at < mark ? state[5] + at + 1 : 0));
    known = new Set(queue);
  }

  const journal: Journal = {
    saved_: savedOf(meta?.[0], queue),
    start_(handle) {
      wake = handle.wake_;
      strand(meta?.[0], queue, handle);
    },
    save_(state, now, carried) {
      if (id !== state[0]) {
        if (writing) return [0, 0];
        id = state[0];
        known = new Set();
        sent = 0;
        safe = [0, 0];
        noted = "";
      }
      const acked = state[5];
      const mark = Math.max(carried ? acked + now.length : sent, acked);
      const extra = note();
      const text = JSON.stringify([state, mark, extra]);
      const fresh = now.some((held) => !known.has(held));
      if (writing || over || (text === noted && !fresh)) return safe;
      writing = true;
      const transaction = db.transaction("outbox", "readwrite");
      const into = transaction.objectStore("outbox");
      if (!noted) into.clear();
      else if (acked) into.delete(IDBKeyRange.bound(META, acked, true));
      now.forEach((held, at) => {
        if (!noted || !known.has(held)) into.put(held, acked + at + 1);
      });
      into.put([state, mark, extra], META);
      known = new Set(now);
      noted = text;
      sent = mark;
      transaction.oncomplete = () => {
        writing = false;
        safe = [mark, state[4]];
        stored(extra);
        wake();
      };
      transaction.onabort = () => {
        // The disk is full, say: it goes on, and what could not be kept waits.
        writing = false;
        noted = "";
        console.warn("throughline: not stored", transaction.error);
        setTimeout(wake, 1000);
      };
      return safe;
    },
    end_() {
      over = true;
      const clearing = db.transaction("outbox", "readwrite");
      clearing.objectStore("outbox").clear();
      clearing.oncomplete = () => {
        db.close();
        release();
      };
    },
  };
  const close = () => {
    over = true;
    db.close();
  };
  return { journal, extra: meta?.[2], close };
};

/**
 * Opens the store of that name, for one tab at a time: it fails with a `TimeoutError` while another has it. Give it to
 * `connect` among the `parts`.
 */
export const durable = async (name = "throughline"): Promise<Part> => {
  const release = await hold(`throughline:${name}`);
  const { journal } = await openStore(name, () => 0, () => undefined, release);
  const parts: Parts = { journal_: journal };
  return parts as unknown as Part;
};

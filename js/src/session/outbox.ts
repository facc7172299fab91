/** The send buffer: numbers messages, keeps them until acknowledged, replays them, stays within bounds. */

import type { MessageTag, Packed, Window } from "../frame/frame.js";

/** A message that was accepted, as its frame. It is numbered when it is first put on a transport: until then it bears 0. */
export type Held = [tag: MessageTag, seq: number, re: number, body: Packed, size: number];

export type Outbox = ReturnType<typeof createOutbox>;

/** `acked` and `queue` are those of a session that is brought back. */
export const createOutbox = (window: Window, acked = 0, queue: Held[] = []) => {
  /** First the numbered ones, oldest first, then those never put on a transport. */
  let numbered = 0;
  /** Which of `queue` is next on the transport that carries now. */
  let cursor = 0;
  let taken = acked;
  /** Up to where sizes are not known any more: till that is taken, nothing new is sent. Brought back, only `welcome` tells. */
  let blind = acked && Infinity;
  /** The highest that may be sent. */
  let upTo = Infinity;
  /** Sizes of the messages after `taken` up to `acked`: not held any more, still counted by the window. */
  const untaken: number[] = [];
  let outstanding = 0;
  /** Up to where the peer was asked what it has received. */
  let asked = 0;
  /** How many times what a careful end puts on a fresh carrier without a receipt it may put there now. */
  let stride = 1;
  /** Bytes that were numbered and are not acknowledged. */
  let flying = 0;
  let bytes = queue.reduce((sum, held) => sum + held[4], 0);

  const fits = (count: number, size: number, bound: Window) =>
    !count || (count < bound.messages && size <= bound.bytes);

  const given = (more: number) => queue.slice(0, cursor + more).reduce((sum, held) => sum + held[4], 0);

  const number = () => {
    const held = queue[numbered]!;
    held[1] = acked + ++numbered;
    outstanding += held[4];
    flying += held[4];
  };

  /** What was sent before this was brought back may arrive after: it was numbered then. */
  const recognise = (received: number) => {
    while (acked + numbered < received && queue[numbered]?.[1]) number();
  };

  return {
    queue_: (): readonly Held[] => queue,
    upTo_(seq: number) {
      upTo = seq;
    },
    /** Numbers again what the peer has received from before this was brought back. */
    renumber_(received: number, took: number) {
      if (blind === Infinity) {
        blind = acked;
        for (; taken > took; taken--) untaken.push(0);
      }
      recognise(received);
    },
    acked_: () => acked,
    /** The highest number given. */
    sent_: () => acked + numbered,
    held_: (): Window => ({ messages: queue.length, bytes }),
    /** The bytes that were sent and may be on their way. */
    flying_: () => flying,
    /** Whether the transport that carries was given anything that is not acknowledged. */
    isAdvanced_: () => cursor > 0,
    /** Whether all that is held was put on the transport that carries now. */
    isHandedOver_: () => cursor === queue.length,
    fits_: (size: number, bound: Window) => fits(queue.length, bytes + size, bound),
    push_(held: Held) {
      bytes += held[4];
      queue.push(held);
    },
    window_(next: Window) {
      window = next;
    },
    /** Whether there is one to send, perhaps one that was never sent. */
    hasNext_: (fresh = true) =>
      cursor < numbered ||
      (fresh &&
        cursor < queue.length &&
        acked + cursor < upTo &&
        taken >= blind &&
        fits(acked + numbered - taken, outstanding + queue[cursor]![4], window)),
    /** The next message for the transport that carries, and whether it was numbered just now; only where there is one. */
    next_(): readonly [held: Held, fresh: boolean] {
      const held = queue[cursor++]!;
      const fresh = cursor > numbered;
      if (fresh) number();
      return [held, fresh];
    },
    /** How many bytes the transport that carries would have been given with so many messages more. */
    given_: given,
    /** Whether so much is on it as a careful end puts there without a receipt. */
    isReined_: () => cursor >= 16 * stride || given(0) >= 1024 * stride,
    /** Begins again at the oldest unacknowledged message. */
    rewind_() {
      cursor = asked = 0;
      stride = 1;
    },
    /**
     * Asks the peer what it has received, if somebody waits for it or half of what may be held is, and all of it was
     * sent; not again before what was asked about is acknowledged.
     */
    ask_(awaited: boolean, bound: Window): boolean {
      const full = () => cursor === queue.length && (queue.length * 2 >= bound.messages || bytes * 2 >= bound.bytes);
      const asks = cursor > 0 && asked <= acked && (awaited || full());
      if (asks) asked = acked + cursor;
      return asks;
    },
    isNews_: (received: number, took: number) => received > acked || took > taken,
    /** Takes a receipt, of which a decoder has seen that nothing was taken that was not received; false is one for what was never
     * sent. Receipts never go back. */
    acknowledge_(received: number, took: number): boolean {
      recognise(received);
      if (received > acked + numbered) return false;
      // All of the stride came through.
      if (cursor && received >= acked + cursor) stride *= 2;
      for (; acked < received; acked++) {
        const size = queue.shift()![4];
        numbered--;
        cursor = Math.max(cursor - 1, 0);
        bytes -= size;
        flying -= size;
        untaken.push(size);
      }
      for (; taken < took; taken++) outstanding -= untaken.shift()!;
      return true;
    },
    /** Takes everything that is not acknowledged, oldest first. */
    drain_(): Held[] {
      const left = queue;
      queue = [];
      numbered = cursor = bytes = 0;
      return left;
    },
  };
};

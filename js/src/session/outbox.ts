/** The send buffer: numbers messages, keeps them until acknowledged, replays them, stays within bounds. */

import type { MessageFrame, MessageTag, Packed, Window } from "../frame/frame.js";

/** A message that was accepted. It is numbered when it is first put on a transport: until then it bears 0. */
export interface Held {
  seq_: number;
  readonly tag_: MessageTag;
  readonly re_: number;
  readonly body_: Packed;
  readonly size_: number;
}

export type Outbox = ReturnType<typeof createOutbox>;

export const createOutbox = (window: Window) => {
  /** First the numbered ones, oldest first, then those never put on a transport. */
  let queue: Held[] = [];
  let numbered = 0;
  /** Which of `queue` is next on the transport that carries now. */
  let cursor = 0;
  let acked = 0;
  let taken = 0;
  /** Sizes of the messages after `taken` up to `acked`: not held any more, still counted by the window. */
  const untaken: number[] = [];
  let outstanding = 0;
  let bytes = 0;

  const fits = (count: number, size: number, bound: Window) =>
    !count || (count < bound.messages && size <= bound.bytes);

  return {
    acked_: () => acked,
    /** The highest number given. */
    sent_: () => acked + numbered,
    held_: (): Window => ({ messages: queue.length, bytes }),
    /** Whether the transport that carries was given anything that is not acknowledged. */
    isAdvanced_: () => cursor > 0,
    /** Whether all that is held was put on the transport that carries now. */
    isHandedOver_: () => cursor === queue.length,
    fits_: (size: number, bound: Window) => fits(queue.length, bytes + size, bound),
    push_(held: Held) {
      bytes += held.size_;
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
        fits(acked + numbered - taken, outstanding + queue[cursor]!.size_, window)),
    /** The next message for the transport that carries; only where there is one. With what was accepted, if it was
     * numbered just now. */
    next_(): readonly [MessageFrame, Held?] {
      const held = queue[cursor++]!;
      const fresh = !held.seq_;
      if (fresh) {
        held.seq_ = acked + ++numbered;
        outstanding += held.size_;
      }
      const frame: MessageFrame = [held.tag_, held.seq_, held.re_, held.body_, held.size_];
      return fresh ? [frame, held] : [frame];
    },
    /** Begins again at the oldest unacknowledged message. */
    rewind_() {
      cursor = 0;
    },
    isNews_: (received: number, took: number) => received > acked || took > taken,
    /** Takes a receipt; false is one for what was never sent. Receipts never go back. */
    acknowledge_(received: number, took: number): boolean {
      if (received > acked + numbered || took > received) return false;
      for (; acked < received; acked++) {
        const { size_ } = queue.shift()!;
        numbered--;
        cursor = Math.max(cursor - 1, 0);
        bytes -= size_;
        untaken.push(size_);
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

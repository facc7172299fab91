/** The receive cursor: in order, once; finds repeats and gaps; decides when a receipt is owed. */

import { limits, type Window } from "../frame/frame.js";

export type Inbox = ReturnType<typeof createInbox>;

/**
 * `capacity` is what is taken at most: the window, or more where the peer cannot know it yet. `received` is what a session
 * that is brought back had received.
 */
export const createInbox = (window: Window, capacity = window, received = 0) => {
  let taken = received;
  /** What was received and not taken: its size, and whether it takes itself. */
  const untaken: (readonly [size: number, takesItself: boolean])[] = [];
  let held = 0;
  /** What the peer knows. */
  let toldReceived = 0;
  let toldTaken = 0;
  let receivedUntold = 0;
  let takenUntold = 0;
  /** Up to which message receipts may go. */
  let safe = Infinity;
  let maxMessage = limits.message_;
  let due = Infinity;
  let overdue = false;

  const halfMessages = Math.max(window.messages >> 1, 1);
  const halfBytes = Math.max(window.bytes / 2, 1);

  /** Takes the foremost messages: so many, and those behind that take themselves. */
  const take = (count: number) => {
    while (untaken[0]?.[1] || (count > 0 && untaken[0])) {
      const [size, itself] = untaken.shift()!;
      if (!itself) count--;
      taken++;
      held -= size;
      takenUntold += size;
    }
  };
  const tellable = () => Math.min(received, safe);
  const tellableTaken = () => Math.min(taken, safe);
  const isUntold = () => toldReceived !== tellable() || toldTaken !== tellableTaken();
  const forget = () => {
    if (received) {
      toldReceived = 0;
      overdue = true;
    }
  };

  return {
    received_: () => received,
    taken_: () => taken,
    /** What a receipt says. */
    receipt_: () => [tellable(), tellableTaken()] as const,
    /** Up to which message it is known elsewhere what came: before that no receipt goes. */
    safe_(seq: number) {
      safe = seq;
    },
    isSafe_: () => received <= safe,
    due_: () => due,
    isUntold_: isUntold,
    /** What was told was lost, or so it must be taken. */
    forget_: forget,
    take_: take,
    maxMessage_(bytes: number) {
      maxMessage = bytes;
    },
    /** Judges a message by its number and, if it is the next one, counts it as received. */
    accept_(seq: number, size: number, takesItself: boolean): "next" | "repeat" | "gap" | "flood" {
      if (seq <= received) {
        // The peer repeats: it may not know what it was told.
        forget();
        return "repeat";
      }
      if (seq > received + 1) return "gap";
      if (received > taken && (received - taken >= capacity.messages || held + size > capacity.bytes)) return "flood";
      received = seq;
      receivedUntold += size;
      held += size;
      untaken.push([size, takesItself]);
      take(0);
      return "next";
    },
    /** Whether a receipt must go now, company or not. */
    isOwed_: () =>
      isUntold() &&
      (overdue ||
        received - toldReceived >= halfMessages ||
        receivedUntold >= halfBytes ||
        taken - toldTaken >= halfMessages ||
        takenUntold >= halfBytes),
    /** Sets the time by which a receipt goes by itself, if one is worth it; an earlier one that is set stays. */
    arm_(now: number, delay: number, light: number) {
      if (overdue) return;
      const heavy = received - toldReceived >= Math.max(window.messages >> 4, 1) || receivedUntold >= Math.max(window.bytes >> 6, 1);
      // For what was only taken it is worth it when the peer, as far as it knows, may have to hold back.
      const pressing = received - toldTaken >= halfMessages || held + takenUntold + maxMessage > window.bytes;
      if (heavy || (taken > toldTaken && pressing)) due = Math.min(due, now + delay);
      else if (received > toldReceived) due = Math.min(due, now + Math.max(light, delay));
    },
    /** The peer asks what was received: it is told now, unless it knows. */
    ask_() {
      overdue ||= isUntold() || received > safe;
    },
    timeout_(now: number) {
      if (due <= now) {
        due = Infinity;
        overdue = true;
      }
    },
    /** Counts what was received as told, and what was taken. */
    tell_(takenToo = true) {
      toldReceived = tellable();
      if (takenToo) {
        toldTaken = tellableTaken();
        takenUntold = 0;
      }
      receivedUntold = 0;
      due = Infinity;
      overdue = received > safe;
    },
  };
};

/** Gives up where nothing passes. It implements what `docs/PROTOCOL.md`, "Starting", says of progress. */

import { close } from "../session/close.js";
import type { Parts } from "./parts.js";

/** So many carriers in a row that ended without progress, over so long, are enough. */
const FRUITLESS = 8;
const FRUITLESS_FOR = 30_000;

/** `within` is from the begin to the first progress, in milliseconds. */
export const patience = (within: number): Parts => ({
  patience_({ session_, reason_, giveUp_ }) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let hopeful = false;
    /** The time is over: what carries it must be proved. */
    let overdue = false;
    /** Messages of which it is known. */
    let received = 0;
    /** Carriers in a row that brought nothing on, and since when. */
    let fruitless = 0;
    let since = 0;

    const judge = () => {
      const session = session_();
      const long = fruitless >= FRUITLESS && Date.now() - since >= FRUITLESS_FOR;
      const carried = session
        .bindings_()
        .some(({ proved_, probed_, base_ }) => (proved_ || probed_) && (!fruitless || session.acked_() > base_!));
      const lost = overdue && !hopeful && !session.receipt_()[0] && !carried;
      if (long || lost) giveUp_(close("timed_out", "nothing passes"));
    };
    const wait = () => {
      timer = setTimeout(() => {
        // Where nobody is reached the time begins anew.
        overdue = reason_()?.code !== "network";
        if (overdue) judge();
        else wait();
      }, within);
    };
    wait();

    return (ended, worked) => {
      if (!ended) return clearTimeout(timer);
      const session = session_();
      const [now] = session.receipt_();
      const acknowledged = worked && (session.acked_() > ended.base_! || !session.held_().messages);
      if (now !== received || acknowledged) {
        hopeful = true;
        fruitless = 0;
      } else {
        if (!fruitless++) since = Date.now();
      }
      received = now;
      judge();
    };
  },
});

/**
 * The rules of a session that only requests and polls need: pushes that are repeated, polls that follow each other. It
 * implements `docs/PROTOCOL.md`, "Long-polling" and "Push"; a client with WebSockets only goes without.
 */

import type { Frame } from "../frame/frame.js";
import { ATTACHED, type Binding, GREETING } from "./binding.js";
import type { Config } from "./config.js";
import type { Outbox } from "./outbox.js";

const MAX_PUSH_RETRY = 5_000;
const MAX_UNANSWERED_PUSHES = 2;
/** Beside a poll that was held for so long a push may have waited behind it; and how long polls are held then. */
const STUCK_AFTER = 1_000;
export const SHORT_HOLD = 500;
/** After a poll that was answered early and empty: somebody else may be polling. */
const EMPTY_POLL_PAUSE = 500;
/** The longest that a path is left unproved, or taken for alive, because parts of something go on coming. */
const LONGEST = 120_000;

/** What these rules need of a session. */
export interface Inner {
  readonly config_: Config;
  readonly outbox_: Outbox;
  has_(bound: Binding): boolean;
  carries_(bound: Binding): boolean;
  now_(): number;
  /** How long a path may be silent. */
  calm_(bound: Binding): number;
  /** Notes that it may not be silent for longer, for now. */
  learn_(bound: Binding, silence: number): void;
  answerBy_(bound: Binding): number;
  detach_(bound: Binding, why: "uplink lost"): void;
  /** Notes that what was said may have been lost. */
  doubt_(): void;
  request_(bound: Binding, hold: number): Frame | undefined;
}

export const httpRules = ({ config_, outbox_, has_, carries_, now_, calm_, learn_, answerBy_, detach_, doubt_, request_ }: Inner) => {
  /** How long a poll is to be held. */
  const hold = (bound: Binding) => Math.min((bound.hold_ ??= config_.hold_), calm_(bound), config_.longestHold_) | 0;

  return {
    /** Notes that something has come, of which nothing may be whole. */
    heard_(bound: Binding) {
      const now = now_();
      const by = answerBy_(bound);
      if (now - bound.asked_ < LONGEST) bound.until_ = Math.max(bound.until_, by);
      if (now - bound.whole_ >= LONGEST) return;
      bound.heard_ = now;
      if (bound.pollOpen_) bound.probeAt_ = Math.max(bound.probeAt_, by);
    },

    /** Notes that the push in flight has ended. What the server did not take is sent again: at once if it took something,
     * otherwise after a pause that grows, but where a box refused it for its size. */
    pushEnded_(bound: Binding, answered: boolean, refused?: boolean) {
      const repeats = carries_(bound) && outbox_.isAdvanced_();
      const acked = outbox_.acked_();
      if (!has_(bound)) return;
      if (refused) bound.fruitless_ = 0;
      if (answered) {
        bound.unanswered_ = 0;
        // The server has the question: what does not bring the answer holds it back.
        if (bound.tried_ && !bound.pingDue_) bound.probed_ = false;
      } else {
        // What else the push may have brought is said again; for `attach` the time is out.
        bound.closingSaid_ = bound.closeSaid_ = false;
        bound.pingDue_ = !bound.proved_ && bound.ping_ > 0;
        bound.pongDue_ ??= bound.pongSaid_;
        if (bound.pollOpen_ && bound.proved_ && now_() - bound.polled_ >= STUCK_AFTER && calm_(bound) > SHORT_HOLD) {
          // A box may make one request at a time: then it waited behind the poll, which makes room, as later ones do soon.
          learn_(bound, SHORT_HOLD);
          bound.pollOpen_ = false;
        } else if (!refused && ++bound.unanswered_ >= MAX_UNANSWERED_PUSHES) return detach_(bound, "uplink lost");
      }
      if (acked > bound.pushAcked_ || !repeats) {
        bound.fruitless_ = 0;
        bound.retryAt_ = Infinity;
      } else {
        bound.retryAt_ = now_() + Math.min(config_.pushRetry_ * 2 ** Math.min(bound.fruitless_++, 8), MAX_PUSH_RETRY);
      }
      bound.pushAcked_ = acked;
      if (repeats) outbox_.rewind_();
      if (!answered) doubt_();
    },

    /** The `poll` that may go now: it need not wait for a push in flight. */
    poll_(bound: Binding): Frame | undefined {
      const { kind_, stage_, pollOpen_, pollAt_, proved_ } = bound;
      if (!has_(bound) || kind_ !== "long-polling" || stage_ === GREETING || pollOpen_ || pollAt_ < Infinity) return;
      // A poll that must prove something is not held.
      const poll = request_(bound, proved_ ? hold(bound) : 0);
      bound.pollOpen_ = !!poll;
      bound.fruitful_ = !proved_;
      bound.polled_ = now_();
      if (poll && proved_) bound.probeAt_ = answerBy_(bound) + (bound.hold_ = hold(bound));
      return poll;
    },

    /** Notes that a box has turned a request down, which is made again after a pause. That is an answer, and so long it need not
     * give another. */
    putOff_(bound: Binding, pause: number) {
      bound.pausedUntil_ = Math.max(bound.pausedUntil_, now_() + pause);
      if (bound.until_ < Infinity) bound.until_ = answerBy_(bound);
      if (bound.pollOpen_ && bound.proved_) bound.probeAt_ = answerBy_(bound) + hold(bound);
    },

    /** Notes that the open poll was answered and all its frames were handed over. */
    pollEnded_(bound: Binding) {
      const now = now_();
      if (!has_(bound) || !bound.pollOpen_) return;
      const early = now - bound.polled_ < Math.max(hold(bound) / 2, EMPTY_POLL_PAUSE);
      if (early && !bound.fruitful_) bound.pollAt_ = now + EMPTY_POLL_PAUSE;
      // What was held so long may be held longer.
      if (!early && !bound.fruitful_) bound.hold_ = hold(bound) * 1.5;
      bound.pollOpen_ = bound.fruitful_ = false;
      bound.probeAt_ = Infinity;
      bound.heard_ = bound.whole_ = now;
      if (bound.stage_ === ATTACHED && !bound.proved_) {
        bound.proved_ = true;
        bound.until_ = Infinity;
      }
    },
  };
};

export type HttpRules = typeof httpRules;

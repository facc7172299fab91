/** Which transport to try next: ranks, remembers what failed in this round, demotes what opens and does not last. It implements what
 * `docs/PROTOCOL.md`, "Starting" and "Switching", says of ranks and demotions. */

import type { TransportKind } from "../frame/frame.js";
import type { Close } from "../session/close.js";
import { SHORT_LIFE } from "./times.js";

const DEMOTED_FOR = 600_000;
/** What was demoted waits so much longer before it is dialled beside another. */
const DEMOTED_WAITS = 3_000;

/** What a plan needs of a socket. */
export interface Dialler {
  clock_(): number;
  /** What is dialled or not welcomed yet, while nothing carries the session. */
  underWay_(): readonly TransportKind[];
  dial_(kind: TransportKind): void;
}

/** `first` is what worked another time: it is tried first, until it fails. */
export const createPlan = (allowed: readonly TransportKind[], first: TransportKind | undefined, { clock_, underWay_, dial_ }: Dialler) => {
  let ranked = allowed;
  let preferred: TransportKind | undefined;
  let failed: TransportKind[] = [];
  /** In this round: what the server says that it does not offer, and whether anything failed otherwise. */
  let notOffered: Close | undefined;
  let otherwise = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const shortLived: Partial<Record<TransportKind, boolean>> = {};
  const demoted: Partial<Record<TransportKind, readonly [until: number, place: number]>> = {};

  /** Where it stands among others: at first, behind them, or where it opened and was not proved, behind all, in turn. */
  const placeOf = (kind: TransportKind): number => {
    const [until, place] = demoted[kind] ?? [0, 0];
    return clock_() < until ? place : 0;
  };
  const demote = (kind: TransportKind, distrusted?: boolean) => {
    const until = clock_() + DEMOTED_FOR;
    shortLived[kind] = false;
    demoted[kind] = [until, distrusted ? until : 1];
  };
  const foremost = (kinds: readonly TransportKind[]): TransportKind | undefined => [...kinds].sort((one, other) => placeOf(one) - placeOf(other))[0];

  const next = (underWay: readonly TransportKind[] = []): TransportKind | undefined =>
    foremost([preferred ?? first ?? ranked[0]!, ...ranked].filter((kind) => !failed.includes(kind) && !underWay.includes(kind)));

  /** Begins a new round; gives the close with which the server refused all that was tried in the last, if it did. */
  const restart = (): Close | undefined => {
    const never = otherwise ? undefined : notOffered;
    failed = [];
    notOffered = undefined;
    otherwise = false;
    return never;
  };

  return {
    demote_: demote,
    prefer_(kind: TransportKind | undefined) {
      preferred = kind;
    },
    /** The next to try in this round, beside those that are under way; undefined when all have failed. */
    next_: next,
    /** Dials the next beside those that are not welcomed, when they have had so long for themselves; or does not. */
    race_(wait?: number) {
      clearTimeout(timer);
      const dialNext = (waited?: boolean) => {
        const underWay = underWay_();
        const kind = underWay[0] && next(underWay);
        if (!kind) return;
        if (waited || !placeOf(kind)) dial_(kind);
        // Where a box makes one request at a time, it would only stand in the way of the others.
        else timer = setTimeout(dialNext, DEMOTED_WAITS, true);
      };
      if (wait !== undefined) timer = setTimeout(dialNext, wait);
    },
    /** A transport that ranks above the one that carries, one after the other: what was demoted may have come to work. */
    better_(kind: TransportKind, turn: number): TransportKind | undefined {
      const better = ranked.slice(0, Math.max(ranked.indexOf(kind), 0));
      return preferred ? undefined : better[turn % better.length];
    },
    failed_(kind: TransportKind, offered?: Close) {
      failed.push(kind);
      if (offered) notOffered = offered;
      else otherwise = true;
      if (kind === first) first = undefined;
    },
    restart_: restart,
    /** Notes that a transport carries the session: what failed in this round is worse than it. Takes the server's word for the
     * ranks, within what the application allows. */
    carried_(kind: TransportKind, offered: readonly TransportKind[]) {
      const both = offered.filter((kind) => allowed.includes(kind));
      ranked = both.length ? both : allowed;
      for (const other of failed) if (other !== kind) demote(other, true);
      restart();
    },
    /** Notes that a transport which carried has ended, not by anybody's decision, after so long. */
    endedAfter_(kind: TransportKind, life: number) {
      const isShort = life < SHORT_LIFE;
      if (isShort && shortLived[kind]) demote(kind);
      else shortLived[kind] = isShort;
      if (!isShort) delete demoted[kind];
    },
  };
};

export type CreatePlan = typeof createPlan;

/** Which transport to try next: ranks, remembers what failed in this round, demotes what opens and does not last. */

import type { TransportKind } from "../frame/frame.js";
import type { Close } from "../session/close.js";

/** A transport that ends within this time of its opening was short-lived; after two in a row it is demoted. */
export const SHORT_LIFE = 5_000;
const DEMOTED_FOR = 600_000;

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
  const demotedUntil: Partial<Record<TransportKind, number>> = {};

  const isDemoted = (kind: TransportKind) => demotedUntil[kind]! > clock_();
  const demote = (kind: TransportKind) => {
    shortLived[kind] = false;
    demotedUntil[kind] = clock_() + DEMOTED_FOR;
  };
  const shorten = (kind: TransportKind) => {
    if (shortLived[kind]) demote(kind);
    else shortLived[kind] = true;
  };

  const next = (underWay: readonly TransportKind[] = []): TransportKind | undefined => {
    const order = [preferred ?? first ?? ranked[0]!, ...ranked].filter((kind) => !failed.includes(kind) && !underWay.includes(kind));
    return order.find((kind) => !isDemoted(kind)) ?? order[0];
  };

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
      const dialNext = () => {
        const underWay = underWay_();
        const kind = underWay[0] && next(underWay);
        if (kind) dial_(kind);
      };
      if (wait !== undefined) timer = setTimeout(dialNext, wait);
    },
    /** A transport that is better than the one that carries, and not known not to work. */
    better_(kind: TransportKind): TransportKind | undefined {
      return preferred ? undefined : ranked.slice(0, Math.max(ranked.indexOf(kind), 0)).find((other) => !isDemoted(other));
    },
    failed_(kind: TransportKind, offered?: Close) {
      failed.push(kind);
      if (offered) notOffered = offered;
      else otherwise = true;
      if (kind === first) first = undefined;
    },
    restart_: restart,
    /** Notes that a transport carries the session: what failed in this round may be worse than it. A browser does not
     * tell a network that is down from a WebSocket that is blocked, so it takes two such rounds. Takes the server's word for
     * the ranks, within what the application allows. */
    carried_(kind: TransportKind, offered: readonly TransportKind[]) {
      const both = offered.filter((kind) => allowed.includes(kind));
      ranked = both.length ? both : allowed;
      for (const other of new Set(failed)) if (other !== kind) shorten(other);
      restart();
    },
    /** Notes that a transport which carried has ended, not by anybody's decision, after so long. */
    endedAfter_(kind: TransportKind, life: number) {
      if (life < SHORT_LIFE) shorten(kind);
      else {
        shortLived[kind] = false;
        demotedUntil[kind] = 0;
      }
    },
  };
};

export type CreatePlan = typeof createPlan;

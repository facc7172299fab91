/** Which transport to try next: ranks, remembers what failed in this round, demotes what opens and does not last. */

import type { TransportKind } from "../frame/frame.js";

/** A transport that ends within this time of its opening was short-lived; after two in a row it is demoted. */
export const SHORT_LIFE = 5_000;
const DEMOTED_FOR = 600_000;

/** `first` is what worked another time: it is tried first, until it fails. */
export const createPlan = (allowed: readonly TransportKind[], first?: TransportKind) => {
  let ranked = allowed;
  let preferred: TransportKind | undefined;
  let failed: TransportKind[] = [];
  const shortLives: Partial<Record<TransportKind, number>> = {};
  const demotedUntil: Partial<Record<TransportKind, number>> = {};

  const isDemoted = (kind: TransportKind, now: number) => (demotedUntil[kind] ?? 0) > now;
  const demote = (kind: TransportKind, now: number) => {
    shortLives[kind] = 0;
    demotedUntil[kind] = now + DEMOTED_FOR;
  };
  const shorten = (kind: TransportKind, now: number) => {
    if ((shortLives[kind] = (shortLives[kind] ?? 0) + 1) > 1) demote(kind, now);
  };

  return {
    demote_: demote,
    /** Takes the server's word, within what the application allows. */
    rank_(offered: readonly TransportKind[]) {
      const both = offered.filter((kind) => allowed.includes(kind));
      ranked = both.length ? both : allowed;
    },
    prefer_(kind: TransportKind | undefined) {
      preferred = kind;
    },
    /** The next to try in this round, beside those that are under way; undefined when all have failed. */
    next_(now: number, underWay: readonly TransportKind[] = []): TransportKind | undefined {
      const order = [preferred ?? first ?? ranked[0]!, ...ranked].filter((kind) => !failed.includes(kind) && !underWay.includes(kind));
      return order.find((kind) => !isDemoted(kind, now)) ?? order[0];
    },
    /** A transport that is better than the one that carries, and not known not to work. */
    better_(kind: TransportKind, now: number): TransportKind | undefined {
      return preferred ? undefined : ranked.slice(0, Math.max(ranked.indexOf(kind), 0)).find((other) => !isDemoted(other, now));
    },
    failed_(kind: TransportKind) {
      failed.push(kind);
      if (kind === first) first = undefined;
    },
    restart_() {
      failed = [];
    },
    /** Notes that a transport carries the session: what failed in this round may be worse than it. A browser does not
     * tell a network that is down from a WebSocket that is blocked, so it takes two such rounds. */
    carried_(kind: TransportKind, now: number) {
      for (const other of new Set(failed)) if (other !== kind) shorten(other, now);
      failed = [];
    },
    /** Notes that a transport which carried has ended, not by anybody's decision, after so long. */
    endedAfter_(kind: TransportKind, life: number, now: number) {
      if (life < SHORT_LIFE) shorten(kind, now);
      else shortLives[kind] = demotedUntil[kind] = 0;
    },
  };
};

export type CreatePlan = typeof createPlan;

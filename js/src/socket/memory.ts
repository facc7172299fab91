/** Remembers for ten minutes what worked for an origin, so that a page need not find it out again. */

import type { TransportKind } from "../frame/frame.js";
import type { Parts } from "./parts.js";

const GOOD_FOR = 600_000;

export const memory: Parts = {
  memory_(origin) {
    const key = `throughline ${origin}`;
    let known: unknown;
    try {
      const [kind, at] = JSON.parse(localStorage.getItem(key)!) as [string, number];
      if (Math.abs(Date.now() - at) < GOOD_FOR) known = kind;
    } catch {
      // Nothing is kept here, or nothing of ours.
    }
    return {
      kind_: known as TransportKind | undefined,
      note_(kind) {
        try {
          localStorage.setItem(key, JSON.stringify([kind, Date.now()]));
        } catch {
          // Then not.
        }
      },
    };
  },
};

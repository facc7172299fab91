/** Tries better transports again, at growing intervals, as candidates beside the one that works; and replaces what is known to die
 * at an age before it does. It implements what `docs/PROTOCOL.md`, "Switching", says of both. */

import type { TransportKind } from "../frame/frame.js";
import type { Parts } from "./parts.js";

/** The first pause, and the longest. */
const FIRST = 30_000;
const LONGEST = 600_000;
/** What carried for so long is no reason to wait longer. */
const STEADY = 60_000;
/** How long it counts at which age carriers end. */
const VERDICT = 600_000;

export const roaming: Parts = {
  roaming_(seek) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let replacing: ReturnType<typeof setTimeout> | undefined;
    let pause = FIRST;
    let since = 0;
    /** At which age the last carrier of a kind ended; and at which they do, until when that counts. */
    const ages: Partial<Record<TransportKind, number>> = {};
    const limits: Partial<Record<TransportKind, readonly [age: number, until: number]>> = {};
    return {
      died_(kind, life) {
        if (Math.abs(life - ages[kind]!) <= life / 10) limits[kind] = [life, Date.now() + VERDICT];
        ages[kind] = life;
      },
      carried_(kind, atOnce) {
        clearTimeout(timer);
        const now = Date.now();
        if (!atOnce) {
          clearTimeout(replacing);
          const [age, until] = limits[kind!] ?? [0, 0];
          if (now < until) replacing = setTimeout(() => seek(kind!), age * 0.8);
        }
        if (atOnce || now - since > STEADY) pause = FIRST;
        since = now;
        let turn = 0;
        const look = () => {
          seek(kind!, turn++);
          wait();
        };
        const wait = () => {
          // Tabs that lost the same server do not come in step: a quarter either way.
          timer = setTimeout(look, pause * (0.75 + Math.random() / 2));
          pause = Math.min(pause * 2, LONGEST);
        };
        if (atOnce) look();
        else if (kind) wait();
      },
    };
  },
};

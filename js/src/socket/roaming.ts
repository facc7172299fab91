/** Tries better transports again, at growing intervals, as candidates beside the one that works. */

import type { Parts } from "./parts.js";

/** The first pause, and the longest. */
const FIRST = 30_000;
const LONGEST = 600_000;
/** What carried for so long is no reason to wait longer. */
const STEADY = 60_000;

export const roaming: Parts = {
  roaming_(seek) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let pause = FIRST;
    let since = 0;
    return (kind, atOnce) => {
      clearTimeout(timer);
      const now = Date.now();
      if (atOnce || now - since > STEADY) pause = FIRST;
      since = now;
      const look = () => {
        seek(kind!);
        wait();
      };
      const wait = () => {
        // Tabs that lost the same server do not come in step: a quarter either way.
        timer = setTimeout(look, pause * (0.75 + Math.random() / 2));
        pause = Math.min(pause * 2, LONGEST);
      };
      if (atOnce) look();
      else if (kind) wait();
    };
  },
};

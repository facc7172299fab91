/** Tries better transports again, at growing intervals, as candidates beside the one that works. */

import type { Parts } from "./parts.js";

/** The first pause, and the longest. */
const FIRST = 10_000;
const LONGEST = 300_000;

export const roaming: Parts = {
  roaming_(seek) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let pause = FIRST;
    return (kind) => {
      clearTimeout(timer);
      const wait = () => {
        timer = setTimeout(() => {
          if (!seek(kind!)) pause = FIRST;
          wait();
        }, pause);
        pause = Math.min(pause * 2, LONGEST);
      };
      if (kind) wait();
    };
  },
};

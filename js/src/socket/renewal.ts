/** Renews a token in band before it runs out, under the running connection. */

import type { Parts } from "./parts.js";

/** In what is left of its time a fresh one is asked for again, while that is longer. */
const AGAIN = 1_000;

export const renewal: Parts = {
  renewal_(renew) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const plan = (expires: number) => {
      clearTimeout(timer);
      const failed = () => timer === mine && plan(expires > AGAIN * 4 ? expires / 4 : 0);
      // Longer than a timer can wait is no time to care about.
      const wait = Math.min(Math.max(expires * 0.75, 100), 2 ** 31 - 1);
      const mine = (timer = expires ? setTimeout(() => renew(failed), wait) : undefined);
    };
    return plan;
  },
};

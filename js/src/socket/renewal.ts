/** Renews a token in band before it runs out, under the running connection. */

import type { Parts } from "./parts.js";

export const renewal: Parts = {
  renewal_(renew) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    return (expires) => {
      clearTimeout(timer);
      // Longer than a timer can wait is no time to care about.
      if (expires) timer = setTimeout(renew, Math.min(Math.max(expires * 0.75, 100), 2 ** 31 - 1));
    };
  },
};

/** How long things may take, how much goes at once, and the clock by which that is judged. Times are in milliseconds. */

/** How long the token and the opening of a transport may take, each; three times as long after eight rounds in vain. */
export const CONNECT_TIMEOUT = 5_000;
/** The least time that a transport has for itself before the next is dialled beside it. */
export const HEAD_START = 250;
/** A transport that ends within this time of its opening was short-lived. */
export const SHORT_LIFE = 5_000;
/** How long a path is on trial, where there is another. */
export const TRIAL = 60_000;
/** More in one batch gains nothing. */
export const BATCH = 64 << 10;
/** How often in a row a message that goes alone may be refused for its size. */
export const REFUSALS = 6;
/** A deadline that is seen so late was missed because nothing ran: timers were held back, or the device slept. */
export const LATE = 1_000;
/** How much later it is judged then. */
export const REPRIEVE = 2_000;

/** Wall-clock time, which goes on while a device sleeps, made never to go back. */
export const createClock = (): (() => number) => {
  let skew = 0;
  let latest = 0;
  return () => {
    const now = Date.now();
    skew += Math.max(latest - now, 0);
    return (latest = now) + skew;
  };
};

/**
 * How long to wait before the next attempt: exponential backoff with full jitter, uniform between nothing and a ceiling
 * that doubles, so that clients which lost one server do not come back in step. Times are in milliseconds.
 */

/** The longest wait that a server can impose. */
const MAX_RETRY_AFTER = 600_000;
/** The jitter of a reconnect that is made at once. */
const AT_ONCE_JITTER = 100;

/** The ceiling of the first pause, and the highest ceiling. */
export interface Backoff {
  readonly base: number;
  readonly cap: number;
}

export const createPauses = ({ base, cap }: Backoff, random: () => number = Math.random) => {
  let failures = 0;
  /** Whether a loss was answered at once already, and nothing has lived since. */
  let hurried = false;

  /** The pause after an attempt failed, on top of what the server asks for. Where nobody answered, as in a tunnel, nobody is
   * hammered: it is an eighth at most of the time that is lost already, as the attempt took about as long. */
  const failure = (atLeast = 0, lost = Infinity) =>
    Math.min(atLeast, MAX_RETRY_AFTER) + random() * Math.min(cap, base * 2 ** failures++, Math.max(base, lost / 8));

  return {
    failure_: failure,
    /** The pause after what worked was lost: nearly none the first time. */
    loss_(atLeast = 0): number {
      if (hurried || failures || atLeast) return failure(atLeast);
      hurried = true;
      return random() * AT_ONCE_JITTER;
    },
    /** Notes that a connection has lived for a while. */
    reset_() {
      failures = 0;
      hurried = false;
    },
  };
};

/** What can go wrong, and what to do about it. */

/**
 * Why something failed. A close code of the protocol or of the server's application stands for itself; besides there is
 *
 * - `network`: nobody was reached. It is tried again.
 * - `not_ours`: something else answered in the server's name: a captive portal (open a page, sign in), a proxy, a wrong
 *   URL. It is tried again.
 * - `malformed`: what came is not of this protocol. It is tried again.
 * - `no_answer`: a path opened and carries nothing. Another is tried.
 * - `token`: the token function failed. It is tried again.
 * - `full`: the outbox is full. Nothing was sent: keep the message, or tell the user that there is no connection.
 * - `too_many_requests`: so many requests wait for an answer. Nothing was sent.
 * - `lost`: the server has forgotten the session (it restarted, say): the message may or may not have arrived.
 * - `unanswered`: the tab that leads a shared session died: the message goes on, its answer or receipt comes to nobody.
 * - `failed`: the peer answered a request with a failure, which is in `body`.
 * - `closed`: the socket is closed.
 */
export type ErrorCode =
  | "network"
  | "not_ours"
  | "malformed"
  | "no_answer"
  | "token"
  | "full"
  | "too_large"
  | "too_many_requests"
  | "lost"
  | "unanswered"
  | "failed"
  | "closed"
  | "unauthorized"
  | "unsupported_version"
  | (string & {});

/** An error of a socket. */
export class ThroughlineError extends Error {
  /** What happened, for programs. */
  readonly code: ErrorCode;
  /** With `failed`: what the peer said. */
  readonly body?: unknown;
  /** With `not_ours`: the HTTP status. */
  readonly status?: number;
  /** How long one is asked to wait before the next attempt, in milliseconds. */
  readonly retryAfter?: number;

  /** The message is short: what each code means, and what to do, stands in the README. */
  constructor(code: ErrorCode, message?: string, more?: { cause?: unknown; body?: unknown; status?: number; retryAfter?: number }) {
    super(message || code);
    this.name = "ThroughlineError";
    this.code = code;
    Object.assign(this, more);
  }
}

/** Why a path ended: what came was not ours, or no frames, or nobody is there. */
export const brokenBy = (cause: unknown): ThroughlineError =>
  cause instanceof ThroughlineError ? cause : new ThroughlineError(cause instanceof SyntaxError ? "malformed" : "network", "", { cause });

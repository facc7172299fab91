/**
 * The uplink of SSE and long-polling: the request that opens an attachment, and the pushes after it, one at a time. It
 * implements the client's side of `docs/PROTOCOL.md`, "Push".
 */

import type { Codec, Frame, Packed } from "../frame/frame.js";
import { brokenBy, ThroughlineError } from "../socket/error.js";
import type { Carrier, Hooks, Target } from "./transport.js";

/** How long the last word of a carrier may take. */
const LINGER = 2_000;

export const mediaOf = (response: Response): string =>
  (response.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();

/** How long a server, or a box in its name, asks to wait. */
export interface NotOurs extends ThroughlineError {
  retryAfter_?: number;
}

export const notOurs = (response: Response): NotOurs => {
  const { status } = response;
  const error: NotOurs = new ThroughlineError("not_ours", `HTTP ${status} ${mediaOf(response)}`, { status });
  error.retryAfter_ = Number(response.headers.get("retry-after") ?? 0) * 1000;
  return error;
};

/** Reads a batch whole. False: it is a refusal. */
export const readBatch = async (response: Response, codec: Codec, take: (frame: Frame) => void): Promise<boolean> => {
  // What else answers under an error status has no `close` of ours.
  if (mediaOf(response) !== codec.media_) throw notOurs(response);
  codec.decode_(await response.arrayBuffer(), (frame) => {
    if (!response.ok && frame[0] !== "close") throw notOurs(response);
    take(frame);
  });
  return response.ok;
};

export interface HttpCarrier extends Carrier {
  take_(frame: Frame): void;
  fail_(cause?: unknown): void;
  /** Sends a request; its answer is used while it is open. */
  ask_(body: Packed, accept: string, use: (response: Response) => Promise<void>, within?: number): AbortController;
}

/** `opened` uses the answer to the first request. */
export const httpCarrier = (
  { url_, codec_, credentials_ }: Target,
  hooks: Hooks,
  accept: string,
  opened: (response: Response) => Promise<void>,
): HttpCarrier => {
  /** The requests under way. */
  const open = new Set<AbortController>();
  let stage: "fresh" | "greeted" | "welcomed" | "over" = "fresh";
  let pushing = false;

  const abort = () => {
    stage = "over";
    for (const control of open) control.abort();
  };
  const pushed = (answered: boolean) => {
    pushing = false;
    if (stage !== "over") hooks.rules_((rules, bound) => rules.pushEnded_(bound, answered));
  };

  const carrier: HttpCarrier = {
    ready_: () => stage === "fresh" || (stage === "welcomed" && !pushing),
    take_(frame) {
      if (stage === "over") return;
      if (frame[0] === "welcome") stage = "welcomed";
      hooks.frame_(frame, false);
    },
    fail_(cause) {
      if (stage === "over") return;
      abort();
      if (cause instanceof ThroughlineError) hooks.ended_(cause, (cause as NotOurs).retryAfter_);
      else hooks.ended_(brokenBy(cause));
    },
    ask_(body, accepted, use, within) {
      const control = new AbortController();
      const { signal } = control;
      open.add(control);
      const timer = within && setTimeout(() => control.abort(), within);
      fetch(url_, {
        method: "POST",
        body: body as BodyInit,
        // `text/plain` lets a page of another origin send without a preflight.
        headers: { "content-type": codec_.sends_, accept: accepted },
        cache: "no-store",
        credentials: credentials_,
        redirect: "manual",
        signal,
      })
        .then(use)
        .catch((cause: unknown) => {
          // What was given up on purpose has nothing to say, but a push is always told.
          if (within) pushed(false);
          else if (!signal.aborted) carrier.fail_(cause);
        })
        .finally(() => {
          clearTimeout(timer);
          open.delete(control);
        });
      return control;
    },
    send_(frames, within) {
      const body = codec_.join_(frames);
      if (stage === "fresh") {
        stage = "greeted";
        carrier.ask_(body, accept, opened);
      } else {
        pushing = true;
        const answered = async (response: Response) => {
          await readBatch(response, codec_, (frame) => stage !== "over" && hooks.frame_(frame, true));
          pushed(true);
        };
        carrier.ask_(body, codec_.media_, answered, within);
      }
    },
    end_(last) {
      abort();
      if (last) carrier.ask_(codec_.join_(last), codec_.media_, async () => undefined, LINGER);
    },
  };
  return carrier;
};

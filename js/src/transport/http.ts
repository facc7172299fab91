/**
 * SSE and long-polling: a streamed answer, or held requests, and pushes beside them, one at a time. All by `fetch`: the
 * requests are POSTs with their secrets in the body, and can be given up. It implements the client's side of
 * `docs/PROTOCOL.md`, "SSE", "Long-polling" and "Push".
 */

import type { Packed, TransportKind } from "../frame/frame.js";
import { jsonReader } from "../frame/lines.js";
import { httpRules } from "../session/http.js";
import { brokenBy, ThroughlineError } from "../error.js";
import { createPlan } from "../socket/plan.js";
import type { Transport } from "./transport.js";

/** How long the last word of a carrier may take. */
const LINGER = 2_000;

/** After such pauses a `poll` or push is sent again that is one too many for a box on the way, or for which it has no room. */
const PAUSES: Partial<Record<number, readonly number[]>> = { 429: [300, 700, 1500, 3000], 503: [300, 700, 1500] };
/** The longest pause that is made because a box asks for it; and how long to wait where there are too many `hello`s. */
const PAUSE = 1_000;

const overHttp = (kind_: TransportKind): Transport => ({
  kind_,
  rules_: httpRules,
  plan_: createPlan,
  open_({ url_, codec_, credentials_ }, hooks) {
    const { media_, stream_ } = codec_;
    const streams = kind_ === "sse";
    /** The requests under way, and the one that polls. */
    const open = new Set<AbortController>();
    let polling: AbortController | undefined;
    /** Whether `hello` is still to be sent; whether a batch may be; whether all is over. */
    let fresh = true;
    let ready = true;
    let over = false;
    let welcomed = false;

    const abort = () => {
      over = true;
      for (const control of open) control.abort();
    };
    const fail = (cause?: unknown) => {
      if (over) return;
      abort();
      hooks.ended_(brokenBy(cause));
    };

    /** A box, or a server in front of ours, has answered. */
    const notOurs = ({ status, headers }: Response) =>
      new ThroughlineError("not_ours", `HTTP ${status} ${headers.get("content-type")}`, {
        status,
        retryAfter: Number(headers.get("retry-after")) * 1000 || (!welcomed && status === 429 ? PAUSE : 0),
      });
    const read = async (response: Response, push: boolean): Promise<boolean> => {
      const { ok, headers, body } = response;
      const media = headers.get("content-type")?.toLowerCase();
      // What else answers has no frames of ours; under an error status it is a `close`.
      if (!media || ![media_, stream_].some((ours) => media.startsWith(ours))) throw notOurs(response);
      const feed = (codec_.reader_ ?? jsonReader)((frame) => {
        const greets = frame[0] === "welcome";
        // One more welcome is a cache's.
        if (greets ? welcomed : !ok && frame[0] !== "close") throw notOurs(response);
        if (greets) ready = welcomed = true;
        if (!over) hooks.frame_(frame, push);
      });
      const reader = body!.getReader();
      for (let piece; !(piece = await reader.read()).done; ) {
        if (!push) hooks.rules_((rules, bound) => rules.heard_(bound));
        feed(piece.value);
      }
      feed();
      return push || ok;
    };
    /** Sends a request; what its answer brings is taken while it is open. A push may take so long, and always has an end. */
    const ask = (body: Packed, accept: string, done: (ok: boolean, cause?: unknown) => void, within?: number) => {
      const control = new AbortController();
      const { signal } = control;
      open.add(control);
      const insist = async (turn: number): Promise<void> => {
        const timer = within && setTimeout(() => control.abort(), within);
        let ok;
        try {
          const answer = fetch(url_, {
            method: "POST",
            body: body as BodyInit,
            // `text/plain` lets a page of another origin send without a preflight.
            headers: { "content-type": codec_.sends_, accept },
            cache: "no-store",
            credentials: credentials_,
            redirect: "manual",
            signal,
          });
          ok = await answer.then((response) => read(response, !!within)).finally(() => clearTimeout(timer));
        } catch (cause) {
          const { status = 0, retryAfter = 0 } = cause as ThroughlineError;
          const pause = welcomed && retryAfter <= PAUSE && PAUSES[status]?.[turn];
          if (pause) {
            const wait = Math.max(pause, retryAfter);
            hooks.rules_((rules, bound) => rules.putOff_(bound, wait));
            await new Promise((resolve) => setTimeout(resolve, wait));
            return insist(turn + 1);
          }
          if (within) done(false, cause);
          // What was given up on purpose has nothing to say.
          else if (!signal.aborted) fail(cause);
          return;
        }
        done(ok);
      };
      void insist(0).finally(() => open.delete(control));
      return control;
    };

    queueMicrotask(hooks.open_);
    return {
      ready_: () => ready,
      send_(frames, within) {
        const body = codec_.join_(frames);
        ready = false;
        if (fresh) ask(body, streams ? stream_ : media_, (ok) => (streams || !ok) && fail());
        else {
          const pushed = (answered: boolean, cause?: unknown) => {
            ready = true;
            if (over) return;
            const refused = (cause as ThroughlineError | undefined)?.status === 413;
            // A box takes no such body. What went alone, behind `push`, may pass another way.
            const alone = refused && !frames[2];
            if (refused) hooks.refused_(body.length, alone);
            if (alone) fail(cause);
            else hooks.rules_((rules, bound) => rules.pushEnded_(bound, answered, refused));
          };
          ask(body, media_, pushed, within);
        }
        fresh = false;
      },
      poll_(poll) {
        polling?.abort();
        const mine = (polling = ask(poll, media_, (ok) => {
          if (!ok) fail();
          else if (polling === mine) {
            polling = undefined;
            hooks.rules_((rules, bound) => rules.pollEnded_(bound));
          }
        }));
      },
      end_(last) {
        abort();
        if (last) ask(codec_.join_(last), media_, () => undefined, LINGER);
      },
    };
  },
});

export const sse = overHttp("sse");
export const longPolling = overHttp("long-polling");

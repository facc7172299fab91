/**
 * A streamed answer with pushes beside it: events, or binary frames back to back. It implements `docs/PROTOCOL.md`,
 * "SSE", by `fetch`: the request is a POST with its secrets in the body, and can be given up.
 */

import { eventStream } from "../frame/event-stream.js";
import { json } from "../frame/json.js";
import { httpRules } from "../session/http.js";
import { createPlan } from "../socket/plan.js";
import { httpCarrier, mediaOf, notOurs, readBatch } from "./http.js";
import type { Transport } from "./transport.js";

export const sse: Transport = {
  kind_: "sse",
  rules_: httpRules,
  plan_: createPlan,
  open_(target, hooks) {
    const { codec_ } = target;
    const carrier = httpCarrier(target, hooks, codec_.stream_, async (response) => {
      const { take_, fail_ } = carrier;
      const media = mediaOf(response);
      if (!response.ok) await readBatch(response, codec_, take_);
      else {
        const feed =
          media === json.stream_
            ? eventStream((data) => json.decode_(data, take_))
            : media === codec_.media_ && codec_.reader_
              ? codec_.reader_(take_)
              : undefined;
        const reader = response.body?.getReader();
        if (!feed || !reader) throw notOurs(response);
        for (let piece; !(piece = await reader.read()).done; ) feed(piece.value);
      }
      fail_();
    });
    queueMicrotask(hooks.open_);
    return carrier;
  },
};

/** Held requests with pushes beside them. It implements the client's side of `docs/PROTOCOL.md`, "Long-polling". */

import { httpRules } from "../session/http.js";
import { createPlan } from "../socket/plan.js";
import { httpCarrier, readBatch } from "./http.js";
import type { Transport } from "./transport.js";

export const longPolling: Transport = {
  kind_: "long-polling",
  rules_: httpRules,
  plan_: createPlan,
  open_(target, hooks) {
    const { codec_ } = target;
    const read = async (response: Response): Promise<boolean> => {
      const accepted = await readBatch(response, codec_, carrier.take_);
      if (!accepted) carrier.fail_();
      return accepted;
    };
    const carrier = httpCarrier(target, hooks, codec_.media_, async (response) => void (await read(response)));
    let open: AbortController | undefined;
    carrier.poll_ = (poll) => {
      open?.abort();
      const mine = (open = carrier.ask_(poll, codec_.media_, async (response) => {
        if ((await read(response)) && open === mine) {
          open = undefined;
          hooks.rules_((rules, bound) => rules.pollEnded_(bound));
        }
      }));
    };
    queueMicrotask(hooks.open_);
    return carrier;
  },
};

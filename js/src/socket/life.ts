/** What a browser tells of a page's life: when to look at the path again, and when to say goodbye. */

import type { Frame } from "../frame/frame.js";
import { close } from "../session/close.js";
import type { Parts } from "./parts.js";

/** What a beacon may bear. */
const BEACON = 60_000;

/** Outside a page it hears nothing. */
export const page: Parts = {
  page_({ codec_, keeps_, url_, session_, look_, away_, drop_ }) {
    const { document } = globalThis;
    if (!document) return () => undefined;
    const control = new AbortController();
    const on = (of: EventTarget, name: string, act: (event: Event) => void) => of.addEventListener(name, act, control);
    for (const name of ["online", "offline"]) on(globalThis, name, look_);
    // Not frozen any more.
    on(document, "resume", look_);
    on(document, "visibilitychange", () => document.visibilityState === "visible" && look_());
    on(globalThis, "pageshow", (event) => (event as PageTransitionEvent).persisted && away_(false));
    on(globalThis, "pagehide", (event) => {
      const mayReturn = (event as PageTransitionEvent).persisted || keeps_;
      const session = session_();
      const bound = session.carrier_() ?? session.bindings_()[0];
      const frames: Frame[] = [];
      if (session.isKnown_() && !keeps_) {
        // What the server may not have yet goes in a beacon: it outlives the page. It knows repeats by their numbers.
        let size = 0;
        for (const frame of session.unsaid_()) if ((size += frame[4] * 2) < BEACON) frames.push(frame);
      }
      // A page with open connections is not kept.
      away_(true);
      if (!mayReturn) session.abort_(close("normal", "the page was left"));
      if (bound && session.isKnown_() && (frames[0] || !mayReturn)) {
        const batch = [session.push_(bound), ...frames, ...(mayReturn ? [] : [session.end_()!])].map(codec_.encode_);
        navigator.sendBeacon(url_(), new Blob([codec_.join_(batch) as BlobPart], { type: codec_.sends_ }));
      }
      drop_();
    });
    return () => control.abort();
  },
};

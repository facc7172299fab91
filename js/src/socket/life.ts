/** What a browser tells of a page's life: when to look at the path again, and when to say goodbye. */

export interface Life {
  /** The page, the device or the network has come back, or gone: a path may be dead, or there again. */
  look_(): void;
  /** The page goes: for good, or perhaps into the back-forward cache. */
  leave_(mayReturn: boolean): void;
  return_(): void;
}

/** Listens until the returned function is called. Outside a page it hears nothing. */
export const watchLife = ({ look_, leave_, return_ }: Life): (() => void) => {
  const { document, addEventListener, removeEventListener } = globalThis;
  if (!document) return () => undefined;
  const seen = () => document.visibilityState === "visible" && look_();
  const hide = (event: PageTransitionEvent) => leave_(event.persisted);
  const show = (event: PageTransitionEvent) => event.persisted && return_();
  const change = (listen: typeof addEventListener, of: Document["addEventListener"]) => {
    listen("online", look_);
    listen("offline", look_);
    listen("pagehide", hide);
    listen("pageshow", show);
    of.call(document, "visibilitychange", seen);
    // Not frozen any more.
    of.call(document, "resume", look_);
  };
  change(addEventListener, document.addEventListener);
  return () => change(removeEventListener, document.removeEventListener);
};

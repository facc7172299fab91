/**
 * Which tabs are in which rooms: the session is in a room as long as one of them is. The tab that leads keeps it.
 * `docs/PROTOCOL.md`, "Rooms". It knows no channel and no lock, and of payloads no more than `join` and `leave`.
 */

/** A tab in a room, and whether it wants to hear who is there; as it can be stored. */
export type Stay = readonly [tab: string, room: string, watches: boolean];

export interface Steward {
  /** Asks the server what a tab wants to know; `kept` resolves when what was decided here is stored. */
  ask_(tab: string, payload: unknown, kept: () => Promise<void>): Promise<unknown>;
  /** A tab has gone, by a crash perhaps, and with it from its rooms. */
  gone_(tab: string): void;
  /** All tabs that are in a room. */
  tabs_(): string[];
}

type Ask = (payload: unknown) => Promise<unknown>;

/** It changes `stays`. */
export const createSteward = (stays: Stay[], ask: Ask): Steward => {
  const of = (room: string) => stays.filter((stay) => stay[1] === room);
  /** True: nobody is left there. */
  const takeOut = (tab: string, room: string) => {
    const at = stays.findIndex((stay) => stay[0] === tab && stay[1] === room);
    if (at >= 0) stays.splice(at, 1);
    return !of(room)[0];
  };
  const leave = (tab: string, room: string) => {
    // The session may not be in the room any more: then it needs no leave.
    if (takeOut(tab, room)) ask({ $: "leave", room }).catch(() => undefined);
  };
  const join = async (tab: string, room: string, payload: { presence?: boolean }) => {
    takeOut(tab, room);
    stays.push([tab, room, !!payload.presence]);
    const isWatched = of(room).some((stay) => stay[2]);
    try {
      return await ask({ ...payload, ...(isWatched && { presence: true }) });
    } catch (error) {
      // With the session it is asked again, by the tab.
      if ((error as { code?: string }).code !== "lost") leave(tab, room);
      throw error;
    }
  };
  return {
    async ask_(tab, payload, kept) {
      const { $: tag, room } = (payload ?? {}) as { $?: unknown; room?: unknown };
      if (typeof room !== "string") return ask(payload);
      if (tag === "join") return join(tab, room, payload as object);
      if (tag !== "leave" || takeOut(tab, room)) return ask(payload);
      await kept();
      return {};
    },
    gone_(tab) {
      for (const [, room] of stays.filter((stay) => stay[0] === tab)) leave(tab, room);
    },
    tabs_: () => [...new Set(stays.map(([tab]) => tab))],
  };
};

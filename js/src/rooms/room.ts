/**
 * One room, as a page holds it. Its position is kept by what came in the stream, in its order, and never by answers, which
 * are heard before what came earlier.
 */

import type { ThroughlineError } from "../error.js";
import { createOutlet, type Flow } from "./outlet.js";
import { type Member, type Notice, type Position, readSaid, type Who, write } from "./payload.js";

/** The codes with which a server refuses what was asked of a room. */
export type RoomErrorCode =
  | "forbidden"
  | "malformed"
  | "unknown"
  | "no_member"
  | "no_room"
  | "too_many_rooms"
  | "too_many_joined"
  | "too_often"
  | "too_deep"
  | "too_large"
  | "exhausted"
  | "internal";

/** How to join. */
export interface JoinOptions<Meta = unknown> {
  /** To go on from here, if the room's history reaches so far. */
  readonly since?: Position;
  /** Else to begin so many messages back, as far as the history reaches. */
  readonly last?: number;
  /** To be told who is there, and who comes and goes. */
  readonly presence?: boolean;
  /** What to tell of oneself. */
  readonly meta?: Meta;
}

/** Where the stream of a room begins. */
export interface Begun {
  /** Behind which message: what is said from here on follows. */
  readonly position: Position;
  /** Whether it goes on from where it was asked to, with nothing missing. */
  readonly recovered: boolean;
}

/** Something that was said. */
export interface RoomMessage<In> {
  readonly body: In;
  readonly offset: number;
  /** Who said it, as the server knows; none if the server itself did. */
  readonly by?: Who;
  /** Of what it is the latest value. */
  readonly key?: string;
}

/** Messages that do not come: there were too many for this member, or the room's history did not reach back to them. */
export interface RoomMissed {
  /** How many; undefined if the room is another by now, so that nobody knows. */
  readonly count: number | undefined;
  /** What comes is behind this. */
  readonly to: Position;
}

/** Who is there now, and, if it is not a new list, what has changed. */
export interface Presence<Meta = unknown> {
  readonly members: readonly Member<Meta>[];
  readonly joined?: Member<Meta>;
  readonly updated?: Member<Meta>;
  readonly gone?: Who;
}

/** A page of what was said, oldest first. */
export interface HistoryPage<In> {
  /** Behind what the page begins. */
  readonly from: Position;
  /** The offset of the latest message. */
  readonly head: number;
  /** Whether nothing is missing between what was asked for and `from`. */
  readonly whole: boolean;
  readonly messages: readonly RoomMessage<In>[];
}

/** What a room tells. */
export interface RoomEvents<In, Meta = unknown> {
  message: RoomMessage<In>;
  begin: Begun;
  missed: RoomMissed;
  presence: Presence<Meta>;
  /** One is no member any more; `asked` if that was by `leave`. */
  left: { readonly code: RoomErrorCode | (string & {}); readonly message: string };
  /** What `send` was given was not said; with `lost` it may have been. `body` is there if it is known. */
  failed: { readonly code: RoomErrorCode | (string & {}); readonly message: string; readonly body?: unknown };
}

/**
 * A room. What fails does so with a `ThroughlineError`, whose `code` is a {@link RoomErrorCode} if the server has refused it.
 *
 * Joined, it stays so: over reconnects the stream goes on; after a lost session it is joined again from its position, and
 * `missed` tells what does not come.
 */
export interface Room<In = unknown, Out = In, Meta = unknown> extends AsyncIterable<RoomMessage<In>> {
  readonly name: string;
  /** Where the stream stands, by what was heard. Undefined: it has not begun, or has ended. */
  readonly position: Position | undefined;
  /** Who is there, if it was joined with `presence`. The same array until something changes. */
  readonly members: readonly Member<Meta>[];
  /** Joins, or begins the stream anew. Listen before: what is said follows at once. */
  join(options?: JoinOptions<Meta>): Promise<Begun>;
  leave(): Promise<void>;
  /** Says something to all members, oneself included. Resolves with its position; with none if nobody is there. */
  publish(body: Out, options?: { key?: string }): Promise<Position | undefined>;
  /** The same without an answer; if it fails, `failed` tells. */
  send(body: Out, options?: { key?: string }): void;
  /** Tells something else of oneself. */
  update(meta?: Meta): Promise<void>;
  /** Asks who is there, as a member. */
  presence(): Promise<readonly Member<Meta>[]>;
  /** Asks what was said, from a position on or from the oldest that is kept; 100 messages if no `limit` is given. */
  history(options?: { since?: Position; limit?: number }): Promise<HistoryPage<In>>;
  on<Name extends keyof RoomEvents<In, Meta>>(name: Name, listener: (event: RoomEvents<In, Meta>[Name]) => void): () => void;
}

type RoomNotice = Notice & { room: string };
type Answer = Omit<Notice & { $: "begin" }, "$" | "room">;
/** A join, by the name that the `begin` of its stream repeats. */
type Wanted<Meta> = { -readonly [Name in keyof JoinOptions<Meta>]: JoinOptions<Meta>[Name] | undefined } & { readonly ref: string };

/** What a room needs of the socket below. */
export interface Wire extends Flow {
  /** Others share the session: not all that is heard is for this page. */
  readonly isShared_: boolean;
  ask_(payload: unknown): Promise<unknown>;
  deliver_(payload: unknown): Promise<void>;
}

/** What the socket below tells a room. */
export interface Inner {
  hear_(notice: RoomNotice): void;
  /** The session was lost. Gives what takes the room up again in the new one, if anything is to. */
  lost_(): (() => Promise<void>) | undefined;
  closed_(error?: unknown): void;
}

/** The tab that leads a shared session died: what was asked goes on, and its answer comes to nobody. */
export const UNANSWERED = "unanswered";
/** There will be no answer, for want of who was to bring it. */
const isGone = (error: unknown) => ["lost", UNANSWERED].includes((error as ThroughlineError).code);
const failure = (code: string, message: string) => Object.assign(new Error(message), { code });

export const createRoom = <In, Out, Meta>(name: string, wire: Wire): readonly [Room<In, Out, Meta>, Inner] => {
  type Members = Map<string, Member<Meta>>;
  const outlet = createOutlet<RoomEvents<In, Meta>>(wire);
  let position: Position | undefined;
  /** How many sessions were lost. */
  let losses = 0;
  /** Stands for the stream that this session brings, if it does: a position outlives a session. */
  let stream: object | undefined;
  /** How it was joined, while it is to be. */
  let wanted: Wanted<Meta> | undefined;
  /** Joins whose stream has not begun. */
  const awaited = new Map<string, Wanted<Meta>>();
  const isAwaited = (join = wanted) => !!join && awaited.has(join.ref);
  /** Joins that wait for their answer: the one that is wanted is repeated in a new session. */
  const asking = new Set<Wanted<Meta>>();
  /** The last `leave`, until the stream has ended by it; and whether it was answered: before, a stream ends for another reason. */
  let leaving: { done_?: boolean } | undefined;
  let present: Members = new Map();
  /** A list of which parts are still to come. */
  let gathered: Members | undefined;
  let members: readonly Member<Meta>[] | undefined = [];
  const askers = new Set<{ resolve_(members: readonly Member<Meta>[]): void; reject_(error: unknown): void }>();

  const ask = async <T>(tag: string, more: object = {}, ...body: [body?: unknown]): Promise<T> => {
    const answer = await wire.ask_(write(tag, { room: name, ...more }, ...body));
    if (typeof answer !== "object" || !answer) throw new TypeError("the server does not speak of rooms");
    return answer as T;
  };
  const list = () => (members ??= [...present.values()]);

  /** Who asked for a list gets none. */
  const dismiss = (code = "closed", message = "") => {
    for (const { reject_ } of askers) reject_(failure(code, message));
    askers.clear();
  };

  /** The stream has ended: what follows is of another. */
  const end = (code: string, message: string) => {
    const was = position;
    position = stream = gathered = undefined;
    if (present.size) {
      present = new Map();
      members = [];
      outlet.emit_("presence", { members });
    }
    dismiss(code, message);
    if (!was) return;
    outlet.emit_("left", { code, message });
    outlet.end_();
  };

  const want = (options: JoinOptions<Meta>): Wanted<Meta> => ({ ...options, ref: Math.random().toString(36).slice(2) });

  /** Asks to join until there is an answer: a session may be lost meanwhile. */
  const enter = async (asked: Wanted<Meta>, before?: Wanted<Meta>): Promise<Begun> => {
    asking.add(asked);
    try {
      for (;;) {
        const { ref, last, presence, meta } = asked;
        const since = isAwaited(asked) ? asked.since : position;
        const session = losses;
        try {
          const { epoch, at, recovered } = await ask<Answer>("join", {
            ref,
            ...(since && { since: { epoch: since.epoch, offset: since.offset } }),
            ...(last !== undefined && { last }),
            ...(presence && { presence }),
            ...(meta !== undefined && { meta }),
          });
          const begins = { epoch, offset: at };
          // From there on, should the session be lost before the stream has begun.
          if (isAwaited(asked)) asked.since ??= begins;
          // That was the last word of a session.
          if (session !== losses && wanted === asked) continue;
          return { position: begins, recovered };
        } catch (error) {
          const isWanted = wanted === asked;
          if (isGone(error) && isWanted) continue;
          awaited.delete(ref);
          if (isWanted) {
            // What stands goes on as it was. Where others share it this page has no stream, though theirs goes on.
            wanted = !wire.isShared_ && (stream || isAwaited(before)) ? (before ?? want({})) : undefined;
            const { code, message } = error as ThroughlineError;
            // If the socket is closed, it tells so itself.
            if (!wanted && code !== "closed") end(code, message);
          }
          throw error;
        }
      }
    } finally {
      asking.delete(asked);
    }
  };

  const begin = ({ epoch, at, recovered, ref }: Notice & { $: "begin" }) => {
    const asked = awaited.get(ref ?? "");
    // What others have joined is not of this page.
    if (wire.isShared_ && !asked && !position) return;
    const before = asked ? asked.since : position;
    const isSame = before?.epoch === epoch;
    if (asked) awaited.delete(asked.ref);
    // What was heard already is not heard again, unless it was asked for.
    position = { epoch, offset: isSame && !asked ? Math.max(before.offset, at) : at };
    stream = {};
    if (!leaving) wanted ??= want({});
    outlet.begin_();
    outlet.emit_("begin", { position, recovered });
    const count = isSame ? at - before.offset : undefined;
    if (before && !recovered && !(count! <= 0)) outlet.emit_("missed", { count, to: position });
  };
  /** False: it is a repeat, or of a stream that has ended. */
  const advance = (offset: number) => {
    if (!position || offset <= position.offset) return false;
    position = { epoch: position.epoch, offset };
    return true;
  };
  const said = ({ body, at, by, key }: Notice & { $: "msg" }): RoomMessage<In> => ({
    body: body as In,
    offset: at,
    ...(by && { by }),
    ...(key != null && { key }),
  });
  /** Who is there has changed. */
  const change = (difference: Omit<Presence<Meta>, "members">, apply: (members: Members) => void) => {
    apply(gathered ?? present);
    if (gathered) return;
    members = undefined;
    outlet.emit_("presence", { members: list(), ...difference });
  };
  const keyOf = (who: Who) => JSON.stringify(who);

  const hear = (notice: RoomNotice) => {
    // What others have joined is not of this page.
    if (wire.isShared_ && !(wanted && (position || notice.$ === "begin"))) return;
    switch (notice.$) {
      case "begin":
        return begin(notice);
      case "msg":
        if (advance(notice.at)) outlet.emit_("message", said(notice));
        return;
      case "missed":
        if (advance(notice.to)) outlet.emit_("missed", { count: notice.count, to: position! });
        return;
      case "present":
        if (notice.first) gathered = new Map();
        for (const member of notice.members) gathered?.set(keyOf(member.who), member as Member<Meta>);
        if (!notice.last || !gathered) return;
        present = gathered;
        gathered = undefined;
        change({}, () => undefined);
        for (const { resolve_ } of askers) resolve_(list());
        return askers.clear();
      case "joined":
      case "updated": {
        const member = notice.member as Member<Meta>;
        return change({ [notice.$]: member }, (members) => members.set(keyOf(member.who), member));
      }
      case "gone":
        return change({ gone: notice.who }, (members) => members.delete(keyOf(notice.who)));
      case "left":
        // One that was asked for may be followed by another stream.
        if (leaving?.done_) leaving = undefined;
        if (!isAwaited()) {
          wanted = undefined;
          // Nobody counts on this page any more.
          if (wire.isShared_ && notice.code !== "asked") ask("leave").catch(() => undefined);
        }
        return end(notice.code, notice.message);
      case "failed":
        return fail(notice.code, notice.message);
    }
  };
  const fail = (code: string, message: string, ...body: [body?: unknown]) => {
    const failed = { code, message, ...(body.length && { body: body[0] }) };
    // Nothing is lost silently.
    if (!outlet.hears_("failed")) console.warn("throughline: not said", name, failed);
    outlet.emit_("failed", failed);
  };

  const room: Room<In, Out, Meta> = {
    name,
    get position() {
      return position;
    },
    get members() {
      return list();
    },
    join(options = {}) {
      const before = wanted;
      const asked = (wanted = want(options));
      awaited.set(asked.ref, asked);
      leaving = undefined;
      outlet.begin_();
      return enter(asked, before);
    },
    async leave() {
      wanted = undefined;
      awaited.clear();
      const mine: typeof leaving = {};
      const left = stream;
      // Others may stay in it: no notice tells.
      if (wire.isShared_) end("asked", "");
      else leaving = mine;
      try {
        await ask("leave");
        mine.done_ = true;
      } catch (error) {
        // With the session it has ended too.
        if (isGone(error)) return;
        const isOut = (error as ThroughlineError).code === "no_member";
        if (leaving === mine) {
          leaving = undefined;
          if (isOut && stream === left) end("asked", "");
        }
        if (!isOut) throw error;
      }
    },
    async publish(body, { key } = {}) {
      const { epoch, offset } = await ask<Partial<Position>>("publish", key === undefined ? {} : { key }, body);
      return epoch === undefined || offset === undefined ? undefined : { epoch, offset };
    },
    send(body, { key } = {}) {
      const sent = wire.deliver_(write("publish", { room: name, ...(key !== undefined && { key }) }, body));
      void sent.catch((error: ThroughlineError) => fail(error.code, error.message, body));
    },
    async update(meta) {
      const asked = wanted;
      const before = asked?.meta;
      if (asked) asked.meta = meta;
      try {
        await ask("meta", meta === undefined ? {} : { meta });
      } catch (error) {
        if (asked && !isGone(error)) asked.meta = before;
        throw error;
      }
    },
    presence: () =>
      new Promise((resolve_, reject_) => {
        const asker = { resolve_, reject_ };
        askers.add(asker);
        // The list comes to those who are in the room.
        const asked = wire.isShared_ && !wanted ? Promise.reject(failure("no_member", "")) : ask("presence");
        asked.catch((error: unknown) => {
          askers.delete(asker);
          reject_(error);
        });
      }),
    async history({ since, limit = 100 } = {}) {
      const page = await ask<Omit<HistoryPage<In>, "messages"> & { messages: unknown[] }>("history", { ...(since && { since }), limit });
      return { ...page, messages: page.messages.map((one) => said(readSaid(one))) };
    },
    on: outlet.on_,
    [Symbol.asyncIterator]: outlet.iterate_,
  };
  const inner: Inner = {
    hear_: hear,
    lost_() {
      losses++;
      stream = gathered = undefined;
      dismiss("lost");
      if (leaving) end("asked", "");
      leaving = undefined;
      const asked = wanted;
      for (const ref of awaited.keys()) if (ref !== asked?.ref) awaited.delete(ref);
      if (!asked || asking.has(asked)) return undefined;
      // If it is refused that is told as the end of the stream.
      return async () => {
        if (wanted === asked) await enter(asked).catch(() => undefined);
      };
    },
    closed_(error) {
      outlet.end_(error);
      dismiss();
    },
  };
  return [room, inner];
};

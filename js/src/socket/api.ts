/** What a user of the library sees. */

import type { Backoff } from "../backoff.js";
import type { TransportKind } from "../frame/frame.js";
import type { ThroughlineError } from "../error.js";

/** How a socket is set up. */
export interface Options {
  /**
   * The token of each `hello`. Called each time a transport is opened; with `fresh` when the last one runs out soon or
   * was refused as too old. It may fail: then it is tried again.
   */
  token?: (fresh: boolean) => unknown;
  /** Which transports may be used, best first. Once the server has told its own ranking, that counts. Default: all. */
  transports?: readonly TransportKind[];
  /**
   * How much may wait to be sent or acknowledged. When it is full, `send` throws `full` and nothing is dropped silently.
   * Default: 1024 messages, 2 MiB.
   */
  outbox?: { readonly messages: number; readonly bytes: number };
  /** The ceiling of the first pause between attempts and the highest, in milliseconds. Default: 500 and 30,000. */
  backoff?: Backoff;
  /** After how many failed attempts in a row to give up, with `timed_out`; a path that was never proved is one. Default: never. */
  maxAttempts?: number;
  /** Whether requests bear cookies. Default: `include`, as WebSockets do. */
  credentials?: RequestCredentials;
}

/** Whether something carries the session now. */
export type State =
  /** On the way to the first connection: the last failure, and when it is tried again (as `Date.now()` counts). */
  | { readonly status: "connecting"; readonly reason?: ThroughlineError; readonly retryAt?: number }
  | { readonly status: "connected"; readonly transport: TransportKind }
  /** Nothing carries it: what is sent waits. Without `retryAt` it is being tried now. */
  | { readonly status: "reconnecting"; readonly reason: ThroughlineError; readonly retryAt?: number }
  /** It is over. Code `normal` is an end in order. */
  | { readonly status: "closed"; readonly reason: ThroughlineError };

/** A message of the server. */
export interface Message<In, Out> {
  readonly body: In;
  /** Whether the server waits for an answer. */
  readonly isRequest: boolean;
  /** Answers it. The first answer counts. */
  reply(body: Out): void;
  /** Answers that it failed. */
  fail(code: string, message: string): void;
}

/** A session was lost: the server has forgotten it, and a new one begins. */
export interface Lost<Out> {
  readonly reason: ThroughlineError;
  /** Messages that were sent and not acknowledged: they may or may not have arrived. What was never sent goes on. */
  readonly unknown: readonly Out[];
}

/** Messages that were sent and are not of the type that the server receives. */
export interface Misfit {
  /** The number of the latest of them. */
  readonly seq: number;
  /** Why that one does not fit. */
  readonly message: string;
  /** How many there were since the last that was told: at most once in a second. */
  readonly count: number;
}

/** What can be listened to. */
export interface Events<In, Out> {
  message: Message<In, Out>;
  state: State;
  /** The session goes on after it was cut: nothing is missing. */
  resumed: TransportKind;
  lost: Lost<Out>;
  misfit: Misfit;
}

/** A session with a server, whatever carries it. */
export interface Socket<In, Out> extends AsyncIterable<Message<In, Out>> {
  /** The public id of the session. */
  readonly id: string;
  readonly state: State;
  /** What waits to be sent or acknowledged. */
  readonly waiting: { readonly messages: number; readonly bytes: number };
  /** Sends a message: JSON, or bytes as they are. It is delivered once and in order. Throws a {@link ThroughlineError}. */
  send(body: Out): void;
  /** Sends a message; resolves when the server has received it. */
  deliver(body: Out): Promise<void>;
  /** Sends a request; resolves with its answer. With a signal it stops waiting, and the answer is discarded. */
  request<Answer = In>(body: Out, options?: { signal?: AbortSignal }): Promise<Answer>;
  /** Listens; returns the way to stop. */
  on<Name extends keyof Events<In, Out>>(name: Name, listener: (event: Events<In, Out>[Name]) => void): () => void;
  /** Moves to another transport while the old one goes on; without an argument back to the best. */
  moveTo(transport?: TransportKind): void;
  /** Ends the session in order: what was sent is delivered first. Resolves when it is over. */
  close(code?: string, reason?: string): Promise<void>;
}

/**
 * throughline: realtime sessions over WebSocket, SSE and long-polling, with nothing lost, repeated or reordered.
 *
 * ```ts
 * const socket = connect<FromServer, ToServer>("/live");
 * socket.send({ text: "hello" });
 * for await (const message of socket) render(message.body);
 * ```
 */

import { binary as binaryCodec } from "./frame/binary.js";
import type { Codec } from "./frame/frame.js";
import { json as jsonCodec } from "./frame/json.js";
import type { Options, Socket } from "./socket/api.js";
import { memory as remembered } from "./socket/memory.js";
import { page as pageLife } from "./socket/life.js";
import type { Parts } from "./socket/parts.js";
import { patience as limitedPatience } from "./socket/patience.js";
import { renewal as tokenRenewal } from "./socket/renewal.js";
import { roaming as betterTransports } from "./socket/roaming.js";
import { openSocket } from "./socket/socket.js";
import { longPolling as overPolls, sse as overStream } from "./transport/http.js";
import type { Transport as Opener } from "./transport/transport.js";
import { websocket as overWebSocket } from "./transport/websocket.js";

export type { Backoff } from "./backoff.js";
export type { TransportKind } from "./frame/frame.js";
export type { Events, Lost, Message, Misfit, Options, Socket, State } from "./socket/api.js";
export { type ErrorCode, ThroughlineError } from "./error.js";

declare const opaque: unique symbol;
/** A way to carry frames: {@link websocket}, {@link sse} or {@link longPolling}. */
export interface Transport {
  readonly [opaque]: "transport";
}
/** An encoding of frames: {@link binary}, say. */
export interface Encoding {
  readonly [opaque]: "encoding";
}
/** What a socket can do without: {@link page}, {@link renewal}, {@link roaming} or {@link memory}, all of which {@link connect} has;
 * and {@link patience}. */
export interface Part {
  readonly [opaque]: "part";
}

export const websocket = overWebSocket as unknown as Transport;
export const sse = overStream as unknown as Transport;
export const longPolling = overPolls as unknown as Transport;
/** Bytes without base64. */
export const binary = binaryCodec as unknown as Encoding;
/** Looks at the path when the page, the device or the network comes back; says goodbye when the page is left. */
export const page = pageLife as unknown as Part;
/** Renews tokens before they run out. Without it a token that ran out costs a reconnect. */
export const renewal = tokenRenewal as unknown as Part;
/** Remembers for ten minutes what worked for an origin. */
export const memory = remembered as unknown as Part;
/** Tries better transports while another carries, and replaces what is known to die at an age. */
export const roaming = betterTransports as unknown as Part;

/**
 * Gives up, with `timed_out`, where nothing passes: so many milliseconds after the begin (9,000, say) if somebody answers and
 * nothing ever came through, and after eight connections in a row, over half a minute, that brought nothing on. Without it a
 * socket tries for ever: a page may be opened before its user has signed in to a network.
 */
export const patience = limitedPatience as unknown as (within: number) => Part;

const open = <In, Out>(url: string, given: readonly unknown[], options: Options & { encoding?: Encoding }): Socket<In, Out> =>
  openSocket(url, given as readonly (Opener | Parts)[], (options.encoding as unknown as Codec | undefined) ?? jsonCodec, options);

/** Connects, over whatever gets through. Returns at once: what is sent meanwhile waits. */
export const connect = <FromServer = unknown, ToServer = unknown>(
  url: string,
  options: Options & { encoding?: Encoding; parts?: readonly Part[] } = {},
): Socket<FromServer, ToServer> => {
  const all = [overWebSocket, overStream, overPolls];
  const { transports } = options;
  const wanted = transports ? transports.flatMap((kind) => all.filter(({ kind_ }) => kind_ === kind)) : all;
  return open(url, [...wanted, pageLife, tokenRenewal, betterTransports, remembered, ...(options.parts ?? [])], options);
};

/**
 * Connects over the given transports only, best first, with the given parts: a bundler leaves out what is not named.
 *
 * ```ts
 * const socket = connectWith("/live", [websocket, page]);
 * ```
 */
export const connectWith = <FromServer = unknown, ToServer = unknown>(
  url: string,
  given: readonly (Transport | Part)[],
  options: Omit<Options, "transports"> & { encoding?: Encoding } = {},
): Socket<FromServer, ToServer> => open(url, given, options);

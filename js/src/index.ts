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
import { openSocket } from "./socket/socket.js";
import { longPolling as overPolls } from "./transport/long-polling.js";
import { sse as overStream } from "./transport/sse.js";
import type { Transport as Opener } from "./transport/transport.js";
import { websocket as overWebSocket } from "./transport/websocket.js";

export type { Backoff } from "./backoff.js";
export type { TransportKind } from "./frame/frame.js";
export type { Events, Lost, Message, Options, Socket, State } from "./socket/api.js";
export { type ErrorCode, ThroughlineError } from "./socket/error.js";

declare const opaque: unique symbol;
/** A way to carry frames: {@link websocket}, {@link sse} or {@link longPolling}. */
export interface Transport {
  readonly [opaque]: "transport";
}
/** An encoding of frames: {@link json} or {@link binary}. */
export interface Encoding {
  readonly [opaque]: "encoding";
}

export const websocket = overWebSocket as unknown as Transport;
export const sse = overStream as unknown as Transport;
export const longPolling = overPolls as unknown as Transport;
export const json = jsonCodec as unknown as Encoding;
export const binary = binaryCodec as unknown as Encoding;

/** Connects, over whatever gets through. Returns at once: what is sent meanwhile waits. */
export const connect = <FromServer = unknown, ToServer = unknown>(
  url: string,
  options: Options & { encoding?: "json" | "binary" } = {},
): Socket<FromServer, ToServer> => {
  const all = [overWebSocket, overStream, overPolls];
  const { transports } = options;
  const wanted = transports ? transports.flatMap((kind) => all.filter(({ kind_ }) => kind_ === kind)) : all;
  return openSocket(url, wanted, options.encoding === "binary" ? binaryCodec : jsonCodec, options);
};

/**
 * Connects over the given transports only, best first: a bundler leaves out what is not named.
 *
 * ```ts
 * const socket = connectWith("/live", [websocket]);
 * ```
 */
export const connectWith = <FromServer = unknown, ToServer = unknown>(
  url: string,
  transports: readonly Transport[],
  options: Omit<Options, "transports"> & { encoding?: Encoding } = {},
): Socket<FromServer, ToServer> =>
  openSocket(
    url,
    transports as unknown as readonly Opener[],
    (options.encoding as unknown as Codec | undefined) ?? jsonCodec,
    options as Options,
  );

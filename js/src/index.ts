/**
 * throughline: realtime sessions over WebSocket, SSE and long-polling, with nothing lost, repeated or reordered.
 *
 * ```ts
 * const socket = connect<FromServer, ToServer>("/live");
 * socket.send({ text: "hello" });
 * for await (const message of socket) render(message.body);
 * ```
 */

import { binary } from "./frame/binary.js";
import type { Codec, TransportKind } from "./frame/frame.js";
import { json } from "./frame/json.js";
import type { Options, Socket } from "./socket/api.js";
import { openSocket } from "./socket/socket.js";
import { longPolling } from "./transport/long-polling.js";
import { sse } from "./transport/sse.js";
import type { Transport as Opener } from "./transport/transport.js";
import { websocket } from "./transport/websocket.js";

export type { Backoff } from "./backoff.js";
export type { TransportKind } from "./frame/frame.js";
export type { Events, Lost, Message, Options, Socket, State } from "./socket/api.js";
export { type ErrorCode, ThroughlineError } from "./socket/error.js";
export { binary, json, longPolling, sse, websocket };
/** A way to carry frames: {@link websocket}, {@link sse} or {@link longPolling}. */
export type Transport = Opener;
/** An encoding of frames: {@link json} or {@link binary}. */
export type Encoding = Codec;

/** Connects, over whatever gets through. Returns at once: what is sent meanwhile waits. */
export const connect = <FromServer = unknown, ToServer = unknown>(
  url: string,
  options: Options & { encoding?: "json" | "binary" } = {},
): Socket<FromServer, ToServer> => {
  const all = [websocket, sse, longPolling];
  const wanted = (options.transports ?? []).map((kind: TransportKind) => all.find(({ kind_ }) => kind_ === kind)!);
  return openSocket(url, wanted.length ? wanted : all, options.encoding === "binary" ? binary : json, options);
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
): Socket<FromServer, ToServer> => openSocket(url, transports, options.encoding ?? json, options);

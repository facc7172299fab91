/**
 * Reads lines, wherever they are cut: those of `application/x-ndjson`, or the data of `text/event-stream`.
 *
 * In this protocol each line of an event's data is a frame, so nothing needs to be gathered until the event ends. It
 * implements `docs/PROTOCOL.md`, "SSE".
 */

import { type Frame, limits, malformed } from "./frame.js";
import { json } from "./json.js";

/** Takes a piece, or nothing at the end. */
export const lines = (take: (line: string) => void, maxBytes = limits.batch_): ((piece?: Uint8Array) => void) => {
  // It takes one byte order mark away, as the standard asks.
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  return (piece) => {
    const split = (rest + decoder.decode(piece, { stream: !!piece })).split(/[\r\n]/);
    rest = piece ? split.pop()! : "";
    // A field's name is before it.
    if (rest.length > maxBytes + 6) malformed();
    for (const line of split) {
      // Other fields, and comments, say nothing.
      const data = line.replace(/^(data: ?|\w*:.*)/, "");
      if (data) take(data);
    }
  };
};

/** Reads frames in JSON, one on each line. It is not in the codec so that a client with WebSockets only goes without. */
export const jsonReader = (take: (frame: Frame) => void) => lines((line) => json.decode_(line, take));

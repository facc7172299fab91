/**
 * Reads `text/event-stream`, wherever it is cut: the data of each event.
 *
 * The rest of the format (ids, names, retry times) is not used by this protocol. It implements `docs/PROTOCOL.md`, "SSE".
 */

import { limits, malformed } from "./frame.js";

export const eventStream = (
  take: (data: string) => void,
  maxBytes = limits.batch_,
  maxLines = limits.frames_,
): ((piece: Uint8Array) => void) => {
  // It takes one byte order mark away, as the standard asks.
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  let lines: string[] = [];
  let size = 0;
  /** Lines of this event, those of other fields too. */
  let count = 0;
  let afterCr = false;
  return (piece) => {
    let text = decoder.decode(piece, { stream: true });
    if (afterCr && text) {
      if (text[0] === "\n") text = text.slice(1);
      afterCr = false;
    }
    afterCr ||= text.endsWith("\r");
    const split = (rest + text).split(/\r\n?|\n/);
    rest = split.pop()!;
    for (const line of split) {
      if (line) {
        if (line[0] !== ":" && ++count > maxLines) malformed();
        const [field, data = ""] = /^data(?:$|: ?(.*))/s.exec(line) ?? [];
        if (field) {
          size += data.length + (lines.push(data) > 1 ? 1 : 0);
          if (size > maxBytes) malformed();
        }
      } else {
        if (lines.length) take(lines.join("\n"));
        lines = [];
        size = count = 0;
      }
    }
    if (rest.length > maxBytes + 6) malformed();
  };
};

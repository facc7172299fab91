/** The JSON encoding: one array per frame, joined by LF. It implements `docs/PROTOCOL.md`, "JSON". */

import { checked, type Codec, fromServer, fromUtf8, isMessage, limits, malformed, toBase64, toUtf8 } from "./frame.js";

export const json: Codec = {
  media_: "application/x-ndjson",
  stream_: "text/event-stream",
  sends_: "text/plain",
  encode_(frame) {
    if (!isMessage(frame)) return JSON.stringify(frame);
    const [tag, seq, re, body] = frame;
    const text = typeof body === "string" ? body : `"${toBase64(body as Uint8Array)}","base64"`;
    return `["${tag}",${seq},${re ? re + "," : ""}${text}]`;
  },
  join_: (frames) => frames.join("\n"),
  decode_(batch, take, rules = fromServer, bounds = limits) {
    if (typeof batch !== "string") batch = fromUtf8(batch);
    if (!batch) return;
    if (batch.length > bounds.batch_) malformed();
    batch.split("\n", bounds.frames_ + 1).forEach((line, at) => {
      const elements: unknown = JSON.parse(line);
      if (at === bounds.frames_) malformed();
      const frame = checked(elements, toUtf8(line).length, rules, bounds);
      if (frame) take(frame);
    });
  },
};

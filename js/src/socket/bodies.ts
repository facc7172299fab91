/** Bodies as the application has them, and as they are packed into frames. */

import { type Packed, toUtf8 } from "../frame/frame.js";

/** What goes into a frame, and its size: bytes as they are, anything else as JSON. */
export const pack = (body: unknown): [packed: Packed, size: number] => {
  if (body instanceof Uint8Array) return [body.slice(), body.length];
  const text = JSON.stringify(body) as string | undefined;
  if (text === undefined) throw new TypeError("no JSON");
  return [text, toUtf8(text).length];
};

export const unpack = (packed: Packed): unknown => (typeof packed === "string" ? JSON.parse(packed) : packed);

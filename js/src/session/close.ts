/** What a close code ends, and what the client does next: one table. `docs/PROTOCOL.md`, "Close codes". */

import { type CloseDetail, type CloseFrame, toUtf8 } from "../frame/frame.js";

/** Why a transport or a session ended. */
export type Close = Required<CloseFrame> | readonly ["close", string, string, CloseDetail];

/** The reason is for people, and cut at 256 bytes, between characters. */
export const close = (code: string, reason = "", detail: CloseDetail = {}): Close => [
  "close",
  code,
  new TextDecoder().decode(toUtf8(reason).subarray(0, 256), { stream: true }),
  detail,
];

/** Whether it ends only the transport that it came on. */
export const endsTransport = (code: string): boolean =>
  /^(superseded|moved|draining|overloaded|auth_expired)$/.test(code);

/** Whether the client goes on with a new session. All codes that it does not know are for good. */
export const beginsAfresh = (code: string): boolean =>
  /^(going_away|unknown_session|slow_consumer|timed_out|internal_error)$/.test(code);

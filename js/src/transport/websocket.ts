/** A WebSocket: each of its messages is a batch. It implements `docs/PROTOCOL.md`, "WebSocket". */

import type { Packed } from "../frame/frame.js";
import { brokenBy } from "../error.js";
import type { Transport } from "./transport.js";

export const websocket: Transport = {
  kind_: "websocket",
  open_({ url_, codec_ }, hooks) {
    const socket = new WebSocket(url_.replace(/^http/, "ws"), "throughline.v1");
    let over = false;
    const end = (cause?: unknown) => {
      socket.close();
      if (over) return;
      over = true;
      hooks.ended_(brokenBy(cause));
    };
    const send = (frames: readonly Packed[]) => socket.send(codec_.join_(frames));
    const isOpen = () => socket.readyState === 1;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => over || hooks.open_();
    socket.onclose = () => end();
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      try {
        codec_.decode_(data, (frame) => over || hooks.frame_(frame, false));
      } catch (cause) {
        end(cause);
      }
    };
    return {
      ready_: isOpen,
      send_: send,
      end_(last) {
        over = true;
        if (last && isOpen()) send(last);
        socket.close();
      },
    };
  },
};

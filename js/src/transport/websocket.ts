/** A WebSocket: each of its messages is a batch. It implements `docs/PROTOCOL.md`, "WebSocket". */

import { ThroughlineError } from "../socket/error.js";
import type { Transport } from "./transport.js";

export const websocket: Transport = {
  kind_: "websocket",
  open_({ url_, codec_ }, hooks) {
    const socket = new WebSocket(url_.replace(/^http/, "ws"), "throughline.v1");
    let over = false;
    const end = (error?: ThroughlineError) => {
      if (over) return;
      over = true;
      socket.close();
      hooks.ended_(error);
    };
    socket.binaryType = "arraybuffer";
    socket.onopen = () => over || hooks.open_();
    socket.onclose = () => end(new ThroughlineError("network", "the WebSocket ended"));
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      try {
        codec_.decode_(data, (frame) => over || hooks.frame_(frame, false));
      } catch (cause) {
        end(new ThroughlineError("malformed", "not throughline", { cause }));
      }
    };
    return {
      ready_: () => socket.readyState === 1,
      send_: (frames) => socket.send(codec_.join_(frames)),
      end_(last) {
        over = true;
        if (last && socket.readyState === 1) socket.send(codec_.join_(last));
        socket.close();
      },
    };
  },
};

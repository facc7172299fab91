/** A protocol of a Rust server, by the types that were made from its own: this file only has to compile. */

import type { Ask, Change, Seat, Tell } from "../../examples/reservations.js";
import { connect } from "../src/index.js";
import { rooms } from "../src/rooms.js";

export const reserve = async (seats: Seat[]): Promise<Seat[]> => {
  const socket = rooms(connect<Tell, Ask>("/live"));
  const hall = socket.room<Change, never>("hall");
  hall.on("message", ({ body }) => {
    switch (body.type) {
      case "taken":
      case "freed":
        body.seats.map((seat) => seat.toFixed());
    }
  });
  // @ts-expect-error There is no such change.
  hall.on("message", ({ body }) => body.type === "sold");
  await hall.join();
  // @ts-expect-error A party has seats.
  await socket.request({ type: "reserve" });
  const answer = await socket.request({ type: "reserve", seats });
  return answer.type === "reserved" ? answer.seats : [];
};

/** What the simulation does not reach: peers that break rules, and choices of this client. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Frame, TransportKind, Welcome } from "../src/frame/frame.js";
import type { Binding } from "../src/session/binding.js";
import { close } from "../src/session/close.js";
import { type Config, defaults } from "../src/session/config.js";
import { httpRules } from "../src/session/http.js";
import type { Held } from "../src/session/outbox.js";
import type { Listener } from "../src/session/events.js";
import { createSession } from "../src/session/session.js";

const begin = (config: Partial<Config> = {}) => {
  let now = 0;
  const session = createSession({ ...defaults, ...config }, "id", "key", now, httpRules);
  const seen: unknown[] = [];
  const listener: Listener = {
    attached_: ({ attachment_ }) => seen.push(["attached", attachment_]),
    detached_: ({ attachment_ }, why) => seen.push(["detached", attachment_, why]),
    message_: ([, seq]) => seen.push(["message", seq]),
    reply_: ({ 1: seq }) => seen.push(["reply", seq]),
    failed_: (seq) => seen.push(["failed", seq]),
    auth_: () => undefined,
    move_: () => undefined,
    ended_: ([, code]) => seen.push(["ended", code]),
  };
  return {
    session,
    saw() {
      for (let event; (event = session.event_()); ) event(listener);
      return seen.splice(0);
    },
    said(bound: Binding) {
      const frames: Frame[] = [];
      for (let frame; (frame = session.transmit_(bound)); ) frames.push(frame);
      return frames.map(([tag]) => tag);
    },
    pass(time: number, judges = true) {
      session.tick_((now += time));
      session.timeout_(judges);
    },
    dial: (kind: TransportKind = "websocket", candidate = false) => session.introduce_(kind, candidate, undefined)!,
    hear: (bound: Binding, ...frames: Frame[]) => frames.forEach((frame) => session.frame_(bound, false, frame)),
    send: (number: number) => session.send_("msg", 0, String(number), 1),
    /** The hold of the poll that goes now, if one does; and the end of one. */
    poll: (bound: Binding) => (session.http_!.poll_(bound)?.[1] as { hold_ms: number } | undefined)?.hold_ms,
    pollEnded: (bound: Binding) => session.http_!.pollEnded_(bound),
    pushEnded: (bound: Binding, answered: boolean) => session.http_!.pushEnded_(bound, answered),
    /** A part of something that is not whole has come. */
    part: (bound: Binding) => session.http_!.heard_(bound),
    putOff: (bound: Binding, pause: number) => session.http_!.putOff_(bound, pause),
  };
};
const welcome = ({ attachment_ }: Binding, more: Partial<Welcome> = {}): Frame => [
  "welcome",
  {
    session: "id",
    epoch: "epoch",
    attachment: attachment_,
    received: 0,
    resumed: attachment_ > 1,
    window: { messages: 256, bytes: 1 << 20 },
    heartbeat_ms: 20_000,
    resume_window_ms: 120_000,
    max_message_bytes: 512 << 10,
    max_batch_bytes: 960 << 10,
    transports: ["websocket", "sse", "long-polling"],
    ...more,
  },
];
const message = (seq: number, size = 1): Frame => ["msg", seq, 0, seq, size];
/** One that was welcomed, and has said nothing since. */
const met = (config: Partial<Config> = {}, kind: TransportKind = "websocket") => {
  const ends = begin(config);
  const bound = ends.dial(kind);
  ends.said(bound);
  ends.hear(bound, welcome(bound));
  ends.saw();
  return { ...ends, bound };
};

test("a gap ends the transport that it came on, and nothing behind it is delivered", () => {
  const { bound, hear, saw } = met();
  hear(bound, message(1), message(3), message(4));
  assert.deepEqual(saw(), [["message", 1], ["detached", 1, "gap"]]);
});

test("a message that is repeated is delivered once, and its receipt is told again", () => {
  const { bound, hear, saw, said, pass } = met();
  hear(bound, message(1));
  pass(50);
  assert.deepEqual(said(bound), [], "it is about little");
  pass(1950);
  assert.deepEqual(said(bound), ["ack"]);
  hear(bound, message(1));
  assert.deepEqual(said(bound), ["ack"]);
  assert.deepEqual(saw(), [["message", 1]]);
});

test("a receipt waits 50 ms once it is about more than a little, and goes with the pong to who asks", () => {
  const { bound, hear, said, pass } = met();
  for (let number = 1; number <= 16; number++) hear(bound, message(number));
  pass(50);
  assert.deepEqual(said(bound), ["ack"]);
  hear(bound, message(17));
  hear(bound, ["ping", 1]);
  assert.deepEqual(said(bound), ["pong", "ack"]);
});

test("who waits for a receipt asks for it once", () => {
  const { session, bound, send, said, hear } = met();
  send(1);
  assert.deepEqual(said(bound), ["msg"]);
  session.await_(send(2) as Held);
  assert.deepEqual(said(bound), ["msg", "ping"]);
  session.await_(send(3) as Held);
  assert.deepEqual(said(bound), ["msg"], "the first question is not answered yet");
  hear(bound, ["ack", 2]);
  assert.deepEqual(said(bound), ["ping"]);
  hear(bound, ["ack", 3]);
  assert.deepEqual(said(bound), []);
});

test("messages beyond the window end the session, in number and in bytes", () => {
  for (const [count, size] of [[257, 1], [3, 400 << 10]] as const) {
    const { bound, hear, saw } = met();
    for (let seq = 1; seq <= count; seq++) hear(bound, message(seq, size));
    assert.deepEqual(saw().at(-1), ["ended", "protocol_error"]);
  }
});

for (const [name, frame] of [
  ["a receipt for what was never sent", ["ack", 1]],
  ["an answer to what was never asked", ["res", 1, 1, 0, 1]],
  ["a frame of the client's", ["attach", { received: 0 }]],
] as [string, Frame][]) {
  test(`${name} ends the session`, () => {
    const { bound, hear, saw, said } = met();
    hear(bound, frame);
    assert.deepEqual(saw(), [["ended", "protocol_error"]]);
    assert.deepEqual(said(bound), ["close"]);
  });
}

test("before welcome nothing else is taken, and no other's welcome", () => {
  for (const frame of [message(1), ["ack", 0], ["ping", 1], welcome({ attachment_: 7 } as Binding)] as Frame[]) {
    const { dial, hear, saw } = begin();
    hear(dial(), frame);
    assert.deepEqual(saw(), [["detached", 1, "malformed"]]);
  }
});

test("another epoch is another life: the session is lost", () => {
  const { dial, hear, saw } = met();
  const next = dial();
  hear(next, welcome(next, { epoch: "other" }));
  assert.deepEqual(saw(), [["detached", 1, "superseded"], ["ended", "unknown_session"]]);
});

test("a candidate below one that was attached, or tried to be, is dropped", () => {
  const { dial, hear, saw } = met();
  const [low, high] = [dial("sse", true), dial("sse", true)];
  for (const bound of [high, low]) hear(bound, welcome(bound));
  hear(high, ["pong", 3]);
  hear(low, ["pong", 2]);
  assert.deepEqual(saw(), [["detached", 2, "superseded"]]);
  hear(high, ["ack", 0]);
  assert.deepEqual(saw(), [["detached", 1, "superseded"], ["attached", 3]]);
});

test("a stream whose pong does not come down is not proved, and given up", () => {
  const { bound, saw, said, pass, session } = met({}, "sse");
  assert.deepEqual(said(bound), ["ping"]);
  // In the answer to the push it proves nothing.
  session.frame_(bound, true, ["pong", 1]);
  pass(3000);
  assert.deepEqual(saw(), [["detached", 1, "unproved"]]);
});

test("the question of a stream that is lost with its push is said again", () => {
  const { bound, hear, said, pushEnded } = met({}, "sse");
  assert.deepEqual(said(bound), ["ping"]);
  pushEnded(bound, false);
  assert.deepEqual(said(bound), ["ping"]);
  hear(bound, ["pong", 1]);
  pushEnded(bound, false);
  assert.deepEqual(said(bound), [], "it was answered");
});

test("a path that is asked whether it lives says so, or is given up", () => {
  const { bound, hear, saw, pass, session } = met();
  session.probe_();
  assert.deepEqual(session.transmit_(bound), ["ping", 2]);
  hear(bound, ["pong", 2]);
  pass(5000);
  assert.deepEqual(saw(), []);
  session.probe_();
  hear(bound, ["pong", 2]);
  pass(3000);
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
});

test("a poll that may hang is asked again, and not held", () => {
  const { bound, poll, pollEnded, session } = met({}, "long-polling");
  assert.equal(poll(bound), 0);
  pollEnded(bound);
  assert.equal(poll(bound), 2000);
  assert.equal(poll(bound), undefined);
  session.probe_();
  assert.equal(poll(bound), 0);
});

test("on a resume what was never sent waits for welcome, what was sent does not", () => {
  for (const [cautious_, expected] of [[true, ["hello", "msg"]], [false, ["hello", "msg", "msg"]]] as const) {
    const { bound, dial, send, said, hear } = met({ cautious_ });
    send(1);
    assert.deepEqual(said(bound), ["msg"]);
    const next = dial();
    send(2);
    assert.deepEqual(said(next), expected);
    hear(next, welcome(next));
    assert.deepEqual(said(next), cautious_ ? ["msg"] : []);
  }
});

test("what is much waits for welcome, for that would wait for all of it", () => {
  const { session, dial, said, hear } = begin();
  const first = dial();
  said(first);
  hear(first, welcome(first));
  for (const size of [60_000, 8_000, 200_000]) session.send_("msg", 0, "x", size);
  assert.deepEqual(said(first), ["msg", "msg", "msg"]);
  session.detach_(first);
  const second = dial();
  assert.deepEqual(said(second), ["hello", "msg"]);
  hear(second, welcome(second));
  assert.deepEqual(said(second), ["msg", "msg"]);
});

test("who closes and is held back says so, and who closes and hears it waits no longer", () => {
  const { session, bound, send, said, hear } = met();
  for (let number = 0; number < 300; number++) send(number);
  assert.equal(said(bound).length, 256);
  session.close_(close("normal"));
  assert.deepEqual(said(bound), ["closing", "ping"]);
  assert.deepEqual(said(bound), []);
  hear(bound, ["closing"]);
  assert.deepEqual(said(bound), ["close"]);
});

test("an abort before welcome says its close behind hello, and nothing before it", () => {
  for (const [greets, expected] of [[true, ["close"]], [false, []]] as const) {
    const { session, dial, said } = begin();
    const bound = dial();
    if (greets) said(bound);
    session.abort_(close("normal"));
    assert.deepEqual(said(bound), expected);
  }
});

test("messages behind a hello that nobody answers are of unknown fate in time", () => {
  const { dial, send, said, saw, pass } = begin();
  send(1);
  said(dial());
  for (let times = 0; times < 6; times++) {
    pass(10_000);
    if (times < 5) said(dial());
  }
  assert.deepEqual(saw().at(-1), ["ended", "unknown_session"]);
});

test("a WebSocket on which messages wait and nothing comes is asked, and given up", () => {
  const { bound, send, said, saw, pass, hear, session } = met();
  send(1);
  assert.deepEqual(said(bound), ["msg"]);
  pass(2999);
  assert.deepEqual(said(bound), []);
  pass(1);
  assert.deepEqual(said(bound), ["ping"]);
  // What comes shows that it lives; the pong, that it carries both ways.
  pass(900);
  hear(bound, ["ping", 1]);
  pass(100);
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
  const next = met();
  next.send(1);
  next.said(next.bound);
  next.hear(next.bound, ["ack", 1]);
  assert.ok(next.session.due_() > 10_000, "what is acknowledged is no reason to ask");
  assert.equal(session.carrier_(), undefined);
});

test("who was held up says what is its own to say, and judges later", () => {
  const { bound, hear, said, saw, pass } = met();
  hear(bound, message(1));
  pass(60_000, false);
  assert.deepEqual(said(bound), ["ack"]);
  assert.deepEqual(saw(), [["message", 1]]);
  pass(0);
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
});

for (const kind of ["websocket", "sse"] as const) {
  test(`messages may stand in front of the answer on a ${kind}, for half a minute, and what else comes says nothing`, () => {
    const { bound, send, said, saw, pass, hear } = met({}, kind);
    if (kind === "websocket") {
      send(1);
      said(bound);
      pass(3000);
    }
    assert.ok(said(bound).includes("ping"));
    for (let seq = 1; seq <= 33; seq++) {
      pass(900);
      assert.deepEqual(saw(), seq > 1 ? [["message", seq - 1]] : []);
      hear(bound, message(seq));
    }
    pass(500);
    hear(bound, message(34), ["ping", 1]);
    saw();
    pass(500);
    assert.deepEqual(saw(), [["detached", 1, kind === "sse" ? "unproved" : "silent"]]);
  });
}

test("where carriers bring nothing but silence, which a large message on a slow path looks like, the next is waited for longer", () => {
  const { dial, said, saw, hear, pass, send } = begin();
  /** After how long one that was asked is given up. */
  const life = (first?: Frame) => {
    const bound = dial();
    said(bound);
    hear(bound, welcome(bound));
    if (first) hear(bound, first);
    said(bound);
    saw();
    for (let time = 0; ; time += 250) {
      pass(250);
      said(bound);
      if (saw().some((event) => (event as unknown[])[0] === "detached")) return time;
    }
  };
  send(1);
  const lives = [life(), life(), life(), life(), life(), life()];
  const more = lives.map((time) => (time - lives[0]!) / 1000);
  // Once before it is asked, and once until it has answered; 94 s of silence are the most.
  assert.deepEqual(more, [0, 0, 8, 32, 90, 90]);
  const after = [life(message(1)), life(), life()].map((time) => (time - lives[0]!) / 1000);
  assert.ok(after[0]! <= 0 && after[1]! <= 0 && after[2] === 8, String(after));
});

test("bytes on their way have twice the time where carriers died under them", () => {
  const { session, dial, said, hear, pass } = begin();
  session.send_("msg", 0, "large", 160_000);
  const times = [];
  for (let life = 0; life < 7; life++) {
    const bound = dial("sse");
    said(bound);
    hear(bound, welcome(bound));
    said(bound);
    times.push(session.answerTime_() / 1000);
    session.detach_(bound);
    pass(0);
  }
  assert.deepEqual(times, [11, 21, 41, 81, 121, 121, 121]);
});

for (const kind of ["sse", "long-polling"] as const) {
  test(`parts of what is not whole are no silence on ${kind}, for two minutes where it is not proved`, () => {
    const { bound, poll, part, pass, saw, said } = met({}, kind);
    said(bound);
    poll(bound);
    for (let time = 0; time < 240; time++) {
      pass(500);
      part(bound);
    }
    assert.deepEqual(saw(), []);
    for (let time = 0; time < 2; time++) {
      pass(500);
      part(bound);
    }
    assert.deepEqual(saw(), [["detached", 1, "unproved"]]);
  });
}

test("parts of what is not whole are no silence of a stream, for two minutes", () => {
  const { bound, part, pass, saw, said, hear } = met({}, "sse");
  said(bound);
  hear(bound, ["pong", 1]);
  for (let time = 0; time < 148; time++) {
    pass(1000);
    part(bound);
  }
  assert.deepEqual(saw(), []);
  pass(1000);
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
});

test("a poll of whose answer parts come is not taken for lost, for two minutes", () => {
  const { bound, poll, pollEnded, part, pass } = met({}, "long-polling");
  const parts = (seconds: number) => {
    for (let time = 0; time < 2 * seconds; time++) {
      pass(500);
      part(bound);
    }
  };
  poll(bound);
  pollEnded(bound);
  for (let life = 0; life < 2; life++) {
    assert.equal(poll(bound), life ? 3000 : 2000);
    parts(110);
    assert.equal(poll(bound), undefined, "it is open");
    pollEnded(bound);
  }
  poll(bound);
  parts(125);
  assert.equal(poll(bound), 0);
});

/** One whose second poll has been held for so long. */
const polling = (held: number) => {
  const ends = met({}, "long-polling");
  const { bound, poll, pollEnded, pass, send, said } = ends;
  poll(bound);
  pollEnded(bound);
  assert.equal(poll(bound), 2000);
  send(1);
  assert.deepEqual(said(bound), ["msg"]);
  pass(held);
  return ends;
};

test("a push that waited behind a held poll is no lost one, and from then on polls are held for half a second", () => {
  const { bound, poll, pollEnded, pushEnded, pass, said, saw } = polling(1000);
  pushEnded(bound, false);
  assert.equal(poll(bound), 500, "the open one makes room");
  pass(500);
  assert.deepEqual(said(bound), ["msg"]);
  pushEnded(bound, false);
  assert.deepEqual(saw(), []);
  for (let time = 500; time < 600_000; time += 500) {
    pollEnded(bound);
    assert.equal(poll(bound), 500);
    pass(500);
  }
  pollEnded(bound);
  assert.equal(poll(bound), 750, "it goes on from there");
  pushEnded(bound, false);
  assert.deepEqual(saw(), [["detached", 1, "uplink lost"]]);
});

test("a push beside a poll that was not held for long is a lost one", () => {
  const { bound, poll, pushEnded, saw } = polling(999);
  pushEnded(bound, false);
  assert.equal(poll(bound), undefined);
  pushEnded(bound, false);
  assert.deepEqual(saw(), [["detached", 1, "uplink lost"]]);
});

test("what a box turns down for now has an answer: until a second behind the pause nothing counts as silent", () => {
  const stream = met({}, "sse");
  stream.said(stream.bound);
  stream.pass(900);
  for (const pause of [3000, 300]) stream.putOff(stream.bound, pause);
  stream.pass(3999);
  assert.deepEqual(stream.saw(), []);
  stream.pass(1);
  assert.deepEqual(stream.saw(), [["detached", 1, "unproved"]]);
  const { bound, poll, pass, putOff, saw } = polling(1500);
  putOff(bound, 3000);
  pass(5999);
  assert.equal(poll(bound), undefined);
  pass(1);
  assert.equal(poll(bound), 0);
  putOff(bound, 300);
  pass(1299);
  assert.deepEqual(saw(), []);
  pass(1);
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
});

test("what is asked in such a pause is to be answered behind it", () => {
  const { bound, session, said, hear, pushEnded, putOff, pass, saw } = met({}, "sse");
  said(bound);
  hear(bound, ["pong", 1]);
  pushEnded(bound, true);
  putOff(bound, 3000);
  session.probe_();
  pass(3999);
  assert.deepEqual(saw(), []);
  pass(1);
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
});

test("a large message has more time", () => {
  const { bound, session, said, pass } = met();
  session.send_("msg", 0, "x".repeat(160_000), 160_000);
  assert.deepEqual(said(bound), ["msg"]);
  pass(12_900);
  assert.deepEqual(said(bound), []);
  pass(100);
  assert.deepEqual(said(bound), ["ping"]);
});

test("a poll that hangs after its hold is asked again without one, and the path given up", () => {
  const { bound, poll, pollEnded, pass, saw } = met({}, "long-polling");
  assert.equal(poll(bound), 0);
  pollEnded(bound);
  assert.equal(poll(bound), 2000);
  pass(2999);
  assert.equal(poll(bound), undefined);
  pass(1);
  assert.equal(poll(bound), 0);
  pass(1000);
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
});

test("a path on trial is asked behind messages, after silences that double, until its minute is over", () => {
  const { bound, hear, said, pass } = met({ trial_: 60_000, lightAckDelay_: 1_000_000 });
  const pings = () => said(bound).filter((tag) => tag === "ping").length;
  const answer = () => hear(bound, ["pong", bound.ping_]);
  pass(5000);
  assert.equal(pings(), 0, "its proof came alone");
  let seq = 0;
  for (const silence of [1000, 2000, 4000, 8000, 16_000]) {
    hear(bound, message(++seq));
    pass(silence - 1);
    assert.equal(pings(), 0);
    pass(1);
    assert.equal(pings(), 1);
    answer();
    pass(1);
  }
  hear(bound, message(++seq));
  pass(22_000);
  assert.equal(pings(), 0);
  const late = met({ trial_: 60_000, lightAckDelay_: 1_000_000 });
  late.pass(59_001);
  late.hear(late.bound, message(1));
  late.pass(5000);
  assert.deepEqual(late.said(late.bound), []);
});

test("where there is no other transport to try, none is on trial", () => {
  const { bound, hear, said, pass } = met({ lightAckDelay_: 1_000_000 });
  hear(bound, message(1));
  pass(20_000);
  assert.deepEqual(said(bound), []);
});

for (const [answered, why] of [[true, "unproved"], [false, "silent"]] as const) {
  test(`a stream on trial that does not bring the answer is ${why} if the push with the question was ${answered ? "" : "not "}answered`, () => {
    const { session, bound, hear, said, saw, send, pass, pushEnded } = met({ trial_: 60_000 }, "sse");
    said(bound);
    hear(bound, ["pong", 1]);
    pushEnded(bound, true);
    send(1);
    assert.deepEqual(said(bound), ["msg"], "what goes up makes it eventful");
    session.frame_(bound, true, ["ack", 1]);
    pushEnded(bound, true);
    pass(1000);
    assert.deepEqual(said(bound), ["ping"]);
    pushEnded(bound, answered);
    pass(1000);
    assert.deepEqual(saw(), [["detached", 1, why]]);
  });
}

test("what a round trip took decides how long the next may take", () => {
  for (const [trip, patience] of [[10, 1000], [500, 2000], [900, 3000], [1500, 4500], [9000, 15_000]] as const) {
    const { dial, said, hear, pass, saw } = begin();
    const bound = dial("sse");
    said(bound);
    pass(trip);
    hear(bound, welcome(bound));
    said(bound);
    pass(patience - 1);
    assert.deepEqual(saw(), [["attached", 1]]);
    pass(1);
    assert.deepEqual(saw(), [["detached", 1, "unproved"]]);
  }
});

test("a poll is held longer, by half, each time that nothing came until its hold ended, and not so long where that is cut", () => {
  const { dial, hear, said, session, pass, poll, pollEnded } = begin();
  const meet = () => {
    const bound = dial("long-polling");
    said(bound);
    hear(bound, welcome(bound, { heartbeat_ms: 60_000 }));
    assert.equal(poll(bound), 0);
    pollEnded(bound);
    return bound;
  };
  const holds = (bound: Binding, count: number) =>
    Array.from({ length: count }, () => {
      const hold = poll(bound)!;
      pass(hold);
      hear(bound, ["ack", 0]);
      pollEnded(bound);
      return hold;
    });
  assert.deepEqual(holds(meet(), 8), [2000, 3000, 4500, 6750, 10_125, 15_187, 22_780, 25_000]);
  const bound = meet();
  assert.deepEqual(holds(bound, 3), [2000, 3000, 4500]);
  poll(bound);
  pass(5000);
  session.detach_(bound);
  assert.deepEqual(holds(meet(), 3), [2000, 2500, 2500]);
  pass(600_000);
  assert.deepEqual(holds(meet(), 3), [2000, 3000, 4500]);
});

/** Something was heard, and then so long nothing; then a message is said that nothing answers. */
const forgotten = (kind: TransportKind, silences: readonly number[]) => {
  const ends = met({}, kind);
  const { bound, hear, said, send, pass, saw, pushEnded } = ends;
  said(bound);
  hear(bound, ["pong", 1]);
  silences.forEach((silence, at) => {
    if (at) hear(bound, ["ping", at]);
    said(bound);
    if (kind === "sse") pushEnded(bound, true);
    pass(silence);
  });
  send(1);
  said(bound);
  for (let time = 0; time < 30_000 && ends.session.carrier_(); time += 500) {
    pass(500);
    said(bound);
  }
  assert.deepEqual(saw(), [["detached", 1, "silent"]]);
  const next = ends.dial(kind);
  said(next);
  hear(next, welcome(next, { received: 1 }));
  said(next);
  hear(next, ["pong", 2]);
  return { ...ends, next };
};

for (const [silences, asksAfter] of [
  [[7000], 3500],
  [[4900], Infinity],
  [[8000, 7000], Infinity],
  [[6000, 7000], 3500],
] as const) {
  test(`a WebSocket that was forgotten behind silences of ${silences.join(" and ")} ms has the next asked after ${asksAfter} ms`, () => {
    const { next, pass, said } = forgotten("websocket", silences);
    pass(3499);
    assert.deepEqual(said(next), []);
    pass(1);
    assert.deepEqual(said(next), asksAfter < Infinity ? ["ping"] : []);
  });
}

test("a stream that nothing came by any more, not even a heartbeat, has the next asked after half of one", () => {
  const { next, pass, said, pushEnded } = forgotten("sse", [19_000]);
  pushEnded(next, true);
  pass(9499);
  assert.deepEqual(said(next), []);
  pass(1);
  assert.deepEqual(said(next), ["ping"]);
});

test("a poll that is taken for lost keeps the holds at half of its own", () => {
  const { bound, poll, pollEnded, pass } = met({}, "long-polling");
  poll(bound);
  for (const hold of [2000, 1000, 500, 500]) {
    pollEnded(bound);
    assert.equal(poll(bound), hold);
    pass(hold + 1000);
    assert.equal(poll(bound), 0);
  }
});

test("where silence is cut off, a path is asked in half the time, for ten minutes", () => {
  const { bound, dial, hear, said, session, pass } = met();
  pass(8000);
  session.detach_(bound);
  const next = dial();
  said(next);
  hear(next, welcome(next));
  pass(3999);
  assert.deepEqual(said(next), []);
  pass(1);
  assert.deepEqual(said(next), ["ping"]);
  hear(next, ["pong", session.bindings_()[0]!.ping_]);
  for (let time = 0; time < 600_000; time += 4000) {
    pass(4000);
    if (said(next)[0]) hear(next, ["pong", session.bindings_()[0]!.ping_]);
  }
  pass(10_000);
  assert.deepEqual(said(next), []);
});

test("after two carriers that died before anything got through, little is put on one without a receipt, until nothing waits", () => {
  const { bound, dial, hear, said, send, session } = met();
  for (let number = 1; number <= 100; number++) send(number);
  assert.equal(said(bound).length, 100);
  session.detach_(bound);
  const second = dial();
  assert.equal(said(second).length, 101);
  hear(second, welcome(second));
  session.detach_(second);
  const third = dial();
  assert.deepEqual(said(third), ["hello"], "nothing behind it");
  hear(third, welcome(third));
  assert.deepEqual(said(third), [...Array<string>(16).fill("msg"), "ping"]);
  hear(third, ["ack", 15]);
  assert.deepEqual(said(third), [...Array<string>(15).fill("msg")], "not all came through: as little as before");
  hear(third, ["ack", 31]);
  assert.deepEqual(said(third), [...Array<string>(32).fill("msg"), "ping"], "all of it came through: twice as much may go");
  session.detach_(third);
  const fourth = dial();
  said(fourth);
  hear(fourth, welcome(fourth, { received: 31 }));
  assert.deepEqual(said(fourth), [...Array<string>(16).fill("msg"), "ping"], "each carrier begins anew");
  hear(fourth, ["ack", 47]);
  said(fourth);
  hear(fourth, ["ack", 79]);
  said(fourth);
  hear(fourth, ["ack", 100]);
  for (let number = 101; number <= 180; number++) send(number);
  assert.equal(said(fourth).length, 80);
});

test("what a carrier got through is progress", () => {
  const { bound, dial, hear, said, send, session } = met();
  for (let number = 1; number <= 40; number++) send(number);
  said(bound);
  hear(bound, ["ack", 1]);
  session.detach_(bound);
  const second = dial();
  said(second);
  hear(second, welcome(second, { received: 2 }));
  session.detach_(second);
  const third = dial();
  assert.equal(said(third).length, 39);
});

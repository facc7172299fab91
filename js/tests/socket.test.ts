/** The socket on a fake clock, over a fake network. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { connect, type Misfit, type Options, type Part, patience, type Socket, type State, ThroughlineError } from "../src/index.js";
import { close as makeClose } from "../src/session/close.js";
import { begin, type Host, isMessage, pass, settle } from "./socket/host.js";

let host: Host;
beforeEach(() => {
  host = begin();
});

type Any = Socket<unknown, unknown>;
/** A socket, and all that it says. */
const open = async (options: Options & { parts?: readonly Part[] } = {}) => {
  const socket = connect("http://test/live", { transports: ["websocket"], ...options });
  const states: State[] = [];
  const heard: unknown[] = [];
  const told: string[] = [];
  socket.on("state", (state) => states.push(state));
  socket.on("message", ({ body }) => heard.push(body));
  socket.on("resumed", (kind) => told.push(`resumed ${kind}`));
  socket.on("lost", ({ unknown }) => told.push(`lost ${JSON.stringify(unknown)}`));
  await settle();
  return { socket, states, heard, told };
};
const reasonOf = ({ state }: Any) => ("reason" in state ? state.reason?.code : undefined);
/** What is to be settled within ten seconds of the clock. */
const soon = async <T>(promise: Promise<T>): Promise<T> => {
  let done = false;
  const finish = () => (done = true);
  promise.then(finish, finish);
  await settle();
  for (let times = 0; !done && times < 200; times++) await pass(50);
  assert.ok(done, "it takes too long");
  return promise;
};
const failing = async (promise: Promise<unknown>): Promise<ThroughlineError> => {
  try {
    await promise;
  } catch (error) {
    return error as ThroughlineError;
  }
  return assert.fail("it did not fail");
};

test("what is sent before there is a connection goes behind the first hello, in one batch", async () => {
  const socket = connect("http://test/live?a=b", { transports: ["websocket"] });
  for (const number of [1, 2, 3]) socket.send(number);
  assert.deepEqual(socket.waiting, { messages: 3, bytes: 3 });
  await settle();
  assert.deepEqual(socket.state, { status: "connected", transport: "websocket" });
  const { url, protocol } = host.sockets[0]!;
  assert.equal(url, `ws://test/live?a=b&session=${socket.id}`);
  assert.equal(protocol, "throughline.v1");
  assert.match(host.batches[0]!, /^\["hello".*\n\["msg",1,1\]\n\["msg",2,2\]\n\["msg",3,3\]$/);
  assert.ok(!url.includes(host.hellos[0]!.key));
  assert.deepEqual(host.heard, [1, 2, 3]);
  await pass(100);
  assert.equal(socket.waiting.messages, 0);
});

test("sends of one turn go in one batch", async () => {
  const { socket } = await open();
  host.batches = [];
  for (let number = 0; number < 100; number++) socket.send(number);
  await settle();
  assert.equal(host.batches.filter((batch) => batch.includes('"msg"')).length, 1);
});

test("a full outbox refuses what is new, drops nothing, and has room again when it was delivered", async () => {
  host.mode = "refuse";
  const { socket } = await open({ outbox: { messages: 3, bytes: 1000 } });
  for (const number of [1, 2, 3]) socket.send(number);
  assert.throws(() => socket.send(4), { name: "ThroughlineError", code: "full" });
  assert.equal((await soon(failing(socket.request(5)))).code, "full");
  host.mode = "accept";
  await pass(60_000);
  socket.send(6);
  await settle();
  assert.deepEqual(host.heard, [1, 2, 3, 6]);
  assert.throws(() => socket.send("x".repeat(600_000)), { code: "too_large" });
  assert.throws(() => socket.send(undefined), TypeError);
});

test("what dies twice at one age is replaced before, for ten minutes", async () => {
  const { socket, told, heard } = await open();
  const live = async (age: number) => {
    for (let time = 0; time < age; time += 500) {
      host.say(time);
      await pass(500);
    }
  };
  for (const age of [9500, 10_000]) {
    await live(age);
    host.cut();
    await pass(200);
  }
  assert.deepEqual([host.hellos.length, told.length], [3, 2]);
  await live(7500);
  assert.equal(host.hellos.length, 3);
  await live(1000);
  assert.deepEqual([host.hellos.length, host.hellos.at(-1)!.candidate, told.length], [4, true, 2], "moved, and never cut");
  assert.deepEqual(socket.state, { status: "connected", transport: "websocket" });
  const count = heard.length;
  host.say("on");
  await pass(100);
  assert.equal(heard.length, count + 1);
  const before = host.hellos.length;
  await pass(600_000);
  const replaced = host.hellos.length;
  assert.ok(replaced > before + 50);
  await pass(60_000);
  assert.ok(host.hellos.length <= replaced + 1, "that was long ago");
});

for (const [lives, rule] of [
  [[10_000, 14_000], "not of one age"],
  [[3000, 3000], "too short to be of age"],
] as const) {
  test(`what dies after ${lives.join(" and ")} ms is not replaced: ${rule}`, async () => {
    const { told } = await open();
    for (const life of lives) {
      for (let time = 0; time < life; time += 500) {
        host.say(time);
        await pass(500);
      }
      host.cut();
      await pass(1000);
    }
    const { length } = host.hellos;
    for (let time = 0; time < 20_000; time += 500) {
      host.say(time);
      await pass(500);
    }
    assert.deepEqual([host.hellos.length, told.length], [length, 2]);
  });
}

test("a connection that is cut is resumed at once, and nothing is missed", async () => {
  const { socket, heard, told, states } = await open();
  host.say("a");
  await settle();
  host.cut();
  host.say("b");
  socket.send("c");
  await pass(200);
  assert.deepEqual(heard, ["a", "b"]);
  assert.deepEqual(host.heard, ["c"]);
  assert.deepEqual(told, ["resumed websocket"]);
  const seen = states.map(({ status }) => status);
  assert.deepEqual([seen[0], seen.at(-1), seen.includes("reconnecting")], ["connected", "connected", true]);
  assert.equal(host.hellos[1]!.epoch, "epoch-epoch");
});

test("while nobody answers it is tried again and again, ever more seldom, and the state says when", async () => {
  host.mode = "refuse";
  const { socket, states } = await open();
  assert.equal(socket.state.status, "connecting");
  assert.equal(reasonOf(socket), "network");
  const waits: number[] = [];
  for (let times = 0; times < 9; times++) {
    const { state } = socket;
    assert.ok("retryAt" in state && state.retryAt);
    waits.push(state.retryAt - Date.now());
    await pass(state.retryAt - Date.now());
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  assert.ok(states.every(({ status }) => status === "connecting"));
});

test("after so many attempts as are allowed it gives up", async () => {
  host.mode = "refuse";
  const { socket } = await open({ maxAttempts: 3 });
  const request = failing(socket.request("x"));
  await pass(10_000);
  assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "timed_out"]);
  assert.equal((await soon(request)).code, "timed_out");
});

/** From here on the server acknowledges no message. */
const swallowMessages = () => {
  const session = host.session();
  const { frame } = session;
  session.frame = (now, attachment, push, got) => isMessage(got) || frame.call(session, now, attachment, push, got);
  return () => (session.frame = frame);
};
const limited = { parts: [patience(9000)] };
for (const [name, arrange, ends] of [
  ["a WebSocket that carries nothing", () => (host.mode = "mute"), true],
  ["somebody else who answers", () => (host.portal = { status: 200, type: "text/html", body: "<html>" }), true],
  ["nobody who is reached", () => (host.mode = "refuse"), false],
] as const) {
  test(`before ${name} the patience of nine seconds ${ends ? "comes to its end" : "begins anew"}`, async () => {
    arrange();
    const { socket } = await open({ ...limited, transports: [host.portal ? "long-polling" : "websocket"] });
    if (ends) await pass(8900);
    assert.equal(socket.state.status, "connecting");
    await pass(ends ? 100 : 60_000);
    if (ends) assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "timed_out"]);
    else assert.equal(socket.state.status, "connecting");
  });
}

test("a path that was proved may carry it longer than nine seconds, and no second one", async () => {
  for (const [cutAfter, livesFor] of [[20_000, 20_000], [5000, 9000]] as const) {
    const { socket } = await open(limited);
    swallowMessages();
    socket.send("stuck");
    await pass(cutAfter);
    host.cut();
    if (livesFor > cutAfter) await pass(livesFor - cutAfter - 100);
    assert.notEqual(socket.state.status, "closed");
    await pass(100);
    assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "timed_out"]);
  }
});

test("a second path on which something was acknowledged carries it longer than nine seconds, though more waits", async () => {
  const { socket } = await open(limited);
  const acknowledge = swallowMessages();
  socket.send("stuck");
  await pass(3000);
  host.cut();
  acknowledge();
  await pass(5500);
  assert.equal(socket.waiting.messages, 0);
  swallowMessages();
  socket.send("on its way");
  await pass(1000);
  assert.deepEqual([socket.state.status, socket.waiting.messages], ["connected", 1]);
});

test("where something came through once, nine seconds mean nothing", async () => {
  const { socket } = await open(limited);
  host.say("once");
  await settle();
  host.mode = "mute";
  host.cut();
  await pass(60_000);
  assert.equal(socket.state.status, "reconnecting");
  host.mode = "accept";
  await pass(60_000);
  assert.equal(socket.state.status, "connected");
});

for (const [options, end] of [[limited, "closed"], [{}, "connected"]] as const) {
  test(`eight connections in a row that bring nothing on leave it ${end} ${end === "closed" ? "with" : "without"} patience`, async () => {
    const { socket, told } = await open(options);
    host.say("once");
    await pass(100);
    swallowMessages();
    socket.send("stuck");
    for (let times = 0; times < 8; times++) {
      await pass(6000);
      host.cut();
    }
    await pass(6000);
    assert.equal(socket.state.status, "connected");
    host.cut();
    await pass(1000);
    assert.equal(socket.state.status, end);
    if (end === "closed") assert.deepEqual([reasonOf(socket), told.at(-1)], ["timed_out", 'lost ["stuck"]']);
  });
}

test("a WebSocket that never opens gives way to the next transport", async () => {
  host.mode = "hang";
  const { socket } = await open({ transports: ["websocket", "long-polling"] });
  await pass(200);
  assert.equal(host.requests, 0);
  await pass(150);
  assert.deepEqual(socket.state, { status: "connected", transport: "long-polling" });
  assert.equal(host.sockets.length, 0, "who lost is dropped");
  assert.equal(await soon(socket.request("ping")), "ping");
});

test("a WebSocket that opens and carries nothing gets company in a quarter of a second, and the first welcome wins", async () => {
  host.mode = "mute";
  const { socket, heard } = await open({ transports: ["websocket", "long-polling"] });
  socket.send("early");
  await pass(200);
  assert.deepEqual([socket.state.status, host.hellos.length], ["connecting", 0]);
  await pass(200);
  assert.deepEqual(socket.state, { status: "connected", transport: "long-polling" });
  assert.equal(host.hellos[0]!.candidate, true);
  host.say("down");
  await pass(200);
  assert.deepEqual([host.heard, heard], [["early"], ["down"]]);
  assert.equal(host.sockets.length, 0, "who lost is dropped");
});

test("who is welcomed when another was asked to carry already gives way to it, and nobody is cut off", async () => {
  const held: (() => void)[] = (host.held = []);
  host.fetch = ((fetch) => (url: string, init: RequestInit) => {
    if (/"poll"/.test(init.body as string)) {
      host.held = undefined;
      for (const arrive of held.splice(0)) arrive();
    }
    return fetch.call(host, url, init);
  })(host.fetch);
  const { socket, states } = await open({ transports: ["websocket", "long-polling"] });
  await pass(1000);
  assert.deepEqual(states.map(({ status }) => status).filter((status) => status !== "connected"), []);
  assert.deepEqual(host.hellos.map(({ transport, candidate }) => [transport, !!candidate]), [["websocket", false], ["long-polling", true]]);
  assert.equal(await soon(socket.request("ping")), "ping");
});

test("one that fails makes room for the next at once, and when all have failed there is a pause", async () => {
  host.mode = "refuse";
  const { socket } = await open({ transports: ["websocket", "long-polling"] });
  await settle();
  assert.equal(host.requests, 1);
  assert.ok("retryAt" in socket.state && socket.state.retryAt);
});

test("from a transport of need it goes back to a better one, and nothing is missed", async () => {
  host.mode = "refuse";
  const socket = connect("http://test/live", { transports: ["websocket", "long-polling"] });
  const heard: unknown[] = [];
  socket.on("message", ({ body }) => heard.push(body));
  host.refusals = 1;
  await pass(1000);
  assert.equal(socket.state.status === "connected" && socket.state.transport, "long-polling");
  host.say("down here");
  await pass(40_000);
  assert.equal(socket.state.status === "connected" && socket.state.transport, "websocket");
  host.say("up here");
  await pass(100);
  assert.deepEqual(heard, ["down here", "up here"]);
});

test("a server that has forgotten the session: what is in doubt is told, what was never sent goes on", async () => {
  const { socket, told } = await open();
  const delivered = failing(socket.deliver("in doubt"));
  const asked = failing(socket.request("asked"));
  host.session().frame = () => undefined;
  await settle();
  host.mode = "refuse";
  host.restart();
  await settle();
  socket.send("not sent yet");
  const later = socket.request("nor this");
  host.mode = "accept";
  await pass(1000);
  assert.deepEqual(told, ['lost ["in doubt","asked"]']);
  assert.equal((await soon(delivered)).code, "lost");
  assert.equal((await soon(asked)).code, "lost");
  assert.deepEqual(host.heard, ["not sent yet", "nor this"]);
  assert.equal(await soon(later), "nor this");
  assert.equal(socket.state.status, "connected");
});

test("an answer to a request of a session that is lost goes nowhere", async () => {
  const socket = connect("http://test/live", { transports: ["websocket"] });
  const answers: (() => void)[] = [];
  socket.on("message", ({ reply }) => answers.push(() => reply("late")));
  socket.on("lost", () => undefined);
  await settle();
  host.say("what?", "req");
  await settle();
  host.restart();
  await pass(1000);
  assert.equal(socket.state.status, "connected");
  assert.throws(answers[0]!, { code: "lost" });
});

test("who sends what does not fit is told, and nothing else that nobody waits for is", async () => {
  const { socket } = await open();
  const misfits: Misfit[] = [];
  socket.on("misfit", (misfit) => misfits.push(misfit));
  host.handle = (session, [, seq]) => {
    for (const body of [{ code: "no" }, null, { code: "misfit", message: "why", count: 3 }, { code: "misfit", message: "why not" }]) {
      const text = JSON.stringify(body);
      session.send("err", seq, text, text.length);
    }
  };
  await soon(socket.deliver("dance"));
  await settle();
  assert.deepEqual(misfits, [
    { seq: 1, message: "why", count: 3 },
    { seq: 1, message: "why not", count: 1 },
  ]);
});

test("requests are answered, fail, and are given up", async () => {
  const { socket } = await open();
  assert.equal(await soon(socket.request("ping")), "ping");
  host.handle = (session, [, seq]) => {
    const text = JSON.stringify({ code: "no", message: "never" });
    session.send("err", seq, text, text.length);
  };
  const error = await soon(failing(socket.request("ping")));
  assert.deepEqual([error.code, error.body], ["failed", { code: "no", message: "never" }]);
  host.handle = () => undefined;
  const control = new AbortController();
  const given = failing(socket.request("ping", { signal: control.signal }));
  control.abort(new RangeError("enough"));
  assert.ok((await soon(given)) instanceof RangeError);
  assert.throws(() => socket.request("ping", { signal: control.signal }), RangeError);
});

test("the server asks, and is answered or told of failure", async () => {
  const answers: unknown[] = [];
  host.handle = (_, [tag, seq, , body]) => void answers.push([tag, seq, body]);
  const socket = connect<string, unknown>("http://test/live", { transports: ["websocket"] });
  socket.on("message", ({ body, isRequest, reply, fail }) => {
    assert.equal(isRequest, true);
    if (body === "fail") fail("no", "never");
    else reply(`${body}!`);
  });
  await settle();
  host.say("ask", "req");
  host.say("fail", "req");
  const events: unknown[] = [];
  const { frame } = host.session();
  host.session().frame = (now, attachment, push, got) => {
    if (got[0] === "res" || got[0] === "err") events.push(got.slice(0, 4));
    frame.call(host.session(), now, attachment, push, got);
  };
  await settle();
  assert.deepEqual(events, [
    ["res", 1, 1, "ask!"],
    ["err", 2, 2, { code: "no", message: "never" }],
  ]);
});

test("delivered is what the server has received", async () => {
  const { socket } = await open();
  let done = false;
  void socket.deliver("x").then(() => (done = true));
  assert.equal(done, false);
  await settle();
  assert.equal(done, true, "the server is asked for it");
});

test("messages wait for the first who listens, and for those who iterate", async () => {
  const socket = connect("http://test/live", { transports: ["websocket"] });
  await settle();
  for (const number of [1, 2]) host.say(number);
  await settle();
  const got: unknown[] = [];
  const reading = (async () => {
    for await (const { body } of socket) {
      got.push(body);
      if (body === 3) break;
    }
  })();
  await settle();
  host.say(3);
  await settle();
  await soon(reading);
  assert.deepEqual(got, [1, 2, 3]);
  host.say(4);
  await settle();
  const later: unknown[] = [];
  const stop = socket.on("message", ({ body }) => later.push(body));
  await settle();
  host.say(5);
  await settle();
  stop();
  host.say(6);
  await settle();
  assert.deepEqual(later, [4, 5]);
});

test("an application that takes nothing holds the server back", async () => {
  const socket = connect("http://test/live", { transports: ["websocket"] });
  await settle();
  for (let number = 0; number < 1000; number++) host.say(number);
  await pass(200);
  assert.equal(host.session().held.messages, 1000 - 256);
  const got: unknown[] = [];
  socket.on("message", ({ body }) => got.push(body));
  await pass(500);
  assert.equal(got.length, 1000);
});

test("iteration ends with the socket, in order or with the reason", async () => {
  const one = await open();
  const all = (async () => {
    for await (const _ of one.socket) assert.fail();
  })();
  void one.socket.close();
  await pass(100);
  await soon(all);
  const two = await open();
  const other = failing(
    (async () => {
      for await (const _ of two.socket) assert.fail();
    })(),
  );
  host.session().abort(Date.now(), makeClose("kicked", "enough"));
  await settle();
  assert.equal((await soon(other)).code, "kicked");
});

test("close delivers what was sent, and leaves no timer", async () => {
  const { socket } = await open();
  socket.send("last");
  const closed = socket.close("normal", "bye");
  assert.throws(() => socket.send("too late"), { code: "closed" });
  await pass(200);
  await soon(closed);
  assert.deepEqual(host.heard, ["last"]);
  assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "normal"]);
  assert.equal(host.session().end?.[1], "normal");
  const before = host.hellos.length;
  await pass(120_000);
  assert.equal(host.hellos.length, before);
  assert.equal(host.sockets.length, 0);
  await soon(socket.close());
});

test("close without a server gives up in time and says what was not delivered", async () => {
  const { socket, told } = await open();
  host.mode = "refuse";
  host.cut();
  await settle();
  socket.send("never");
  const closed = socket.close();
  await pass(11_000);
  await soon(closed);
  assert.deepEqual(told, ['lost ["never"]']);
});

test("a silent connection is given up within one and a half heartbeats", async () => {
  const { socket } = await open();
  const { pump } = host;
  host.pump = () => undefined;
  await pass(29_000);
  assert.equal(socket.state.status, "connected");
  host.pump = pump;
  host.cut = () => undefined;
  host.mode = "refuse";
  host.pump = () => undefined;
  await pass(1500);
  assert.equal(socket.state.status, "reconnecting");
});

test("a token is asked for at each hello, anew before it runs out, and once more when the server says that it has", async () => {
  const asked: boolean[] = [];
  host.expires = 10_000;
  const { socket } = await open({
    token: (fresh) => {
      asked.push(fresh);
      return `token ${asked.length}`;
    },
  });
  assert.deepEqual(host.hellos.map(({ auth }) => auth), ["token 1"]);
  await pass(7600);
  assert.deepEqual(asked, [false, true]);
  assert.ok(host.batches.includes('["auth","token 2"]'));
  host.judge = ({ auth }) => (auth === "token 4" ? undefined : makeClose("auth_expired", "too old"));
  host.cut();
  await pass(1000);
  assert.deepEqual(asked, [false, true, false, true]);
  assert.equal(socket.state.status, "connected");
});

test("a fresh token that is not to be had is asked for again while the old one is good", async () => {
  host.expires = 20_000;
  let asked = 0;
  const { socket, states } = await open({
    token: () => {
      if (asked++ % 3) throw new Error("the token service is down");
      return "token";
    },
  });
  const counts = [];
  let time = 0;
  for (const until of [14_900, 15_100, 18_700, 18_800, 19_600, 19_700, 30_000]) {
    await pass(until - time);
    time = until;
    counts.push(asked);
  }
  assert.deepEqual(counts, [1, 2, 2, 3, 3, 4, 4]);
  assert.deepEqual(states, [{ status: "connected", transport: "websocket" }], "nothing was cut");
  assert.equal(socket.state.status, "connected");
});

test("a token that is not to be had when all is over is not asked for again", async () => {
  host.expires = 20_000;
  let asked = 0;
  let fail: (error: Error) => void;
  const { socket } = await open({
    token: () => (asked++ ? new Promise((_, reject) => (fail = reject)) : "token"),
  });
  await pass(15_100);
  assert.equal(asked, 2);
  void socket.close();
  await pass(100);
  fail!(new Error("the token service is down"));
  await pass(20_000);
  assert.equal(asked, 2);
});

test("after a time in which nobody answered, no pause is longer than an eighth of it", async () => {
  const random = mock.method(Math, "random", () => 0.999);
  const { socket } = await open({ transports: ["websocket"] });
  await pass(60_000);
  host.mode = "hang";
  host.cut();
  const waits: number[] = [];
  const since = Date.now();
  socket.on("state", (state) => {
    if (state.status === "reconnecting" && state.retryAt) waits.push((state.retryAt - Date.now()) / (Date.now() - since));
  });
  await pass(90_000);
  random.mock.restore();
  assert.ok(waits.length >= 7 && waits.slice(2).every((share) => share <= 0.125), waits.map((share) => share.toFixed(3)).join());
});

test("a server that takes no fresh token either is not asked again", async () => {
  host.judge = () => makeClose("auth_expired", "too old");
  const { socket } = await open({ token: () => "always the same" });
  await pass(10_000);
  assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "auth_expired"]);
  assert.equal(host.hellos.length, 2);
});

test("a token function that fails, or takes too long, has an error of its own, and is tried again", async () => {
  let works: "no" | "never" | "yes" = "no";
  const { socket } = await open({
    token: async () => {
      if (works === "no") throw new Error("the session cookie is gone");
      if (works === "never") await new Promise(() => undefined);
      return "token";
    },
  });
  const { state } = socket;
  assert.ok(state.status === "connecting" && state.reason?.code === "token" && state.reason.cause instanceof Error);
  works = "never";
  await pass(500);
  await pass(5500);
  assert.equal(reasonOf(socket), "token");
  works = "yes";
  await pass(10_000);
  assert.equal(socket.state.status, "connected");
});

for (const code of ["unauthorized", "forbidden", "unsupported_version", "protocol_error", "kicked-by-a-moderator"]) {
  test(`${code} is for good, and says so`, async () => {
    host.judge = () => makeClose(code, "because");
    const { socket } = await open();
    await pass(60_000);
    const { state } = socket;
    assert.ok(state.status === "closed" && state.reason.code === code && state.reason.message === "because");
    assert.equal(host.hellos.length, 1);
    assert.throws(() => socket.send("x"), { code: "closed" });
  });
}

test("a 401 in the middle of a session ends it", async () => {
  const { socket } = await open();
  host.judge = () => makeClose("unauthorized", "signed out");
  host.cut();
  await pass(1000);
  assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "unauthorized"]);
});

for (const code of ["draining", "overloaded"]) {
  test(`${code} is waited for as long as the server asks`, async () => {
    host.judge = () => makeClose(code, "", { retry_after_ms: 7000 });
    const { socket } = await open();
    const { state } = socket;
    assert.ok(state.status === "connecting" && state.retryAt === Date.now() + 7250 && state.reason?.code === code);
    host.judge = () => undefined;
    await pass(7300);
    assert.equal(socket.state.status, "connected");
  });
}

test("a captive portal's page is told apart from a server, and waited out", async () => {
  host.portal = { status: 200, type: "text/html; charset=utf-8", body: "<h1>Welcome to the hotel</h1>" };
  const { socket } = await open({ transports: ["long-polling"] });
  const { state } = socket;
  assert.ok(state.status === "connecting" && state.reason?.code === "not_ours" && state.reason.status === 200);
  assert.match(state.reason.message, /html/);
  host.portal = undefined;
  await pass(2000);
  assert.equal(socket.state.status, "connected");
});

test("a box that asks to wait is waited for", async () => {
  host.portal = { status: 503, type: "text/plain", body: "later", retryAfter: 20 };
  const { socket } = await open({ transports: ["sse", "long-polling"] });
  assert.ok("retryAt" in socket.state && socket.state.retryAt! >= Date.now() + 20_000);
});

test("where there are too many requests the next hello waits a second, if nobody says how long", async () => {
  host.portal = { status: 429, type: "text/plain", body: "slowly" };
  const { socket } = await open({ transports: ["sse", "long-polling"] });
  assert.ok("retryAt" in socket.state && socket.state.retryAt! >= Date.now() + 1000);
  assert.equal(host.requests, 1);
});

for (const [status, times, retryAfter, passes] of [
  [429, 4, 1, true],
  [429, 5, 0, false],
  [503, 3, "soon", true],
  [503, 4, 0, false],
  [503, 1, 2, false],
  [502, 1, 0, false],
] as const) {
  test(`a poll that is answered ${times} times by ${status}, and asked to wait for ${retryAfter} s, ${passes ? "passes" : "has failed"}`, async () => {
    const { socket, heard } = await open({ transports: ["long-polling"] });
    // Until its polls are held for long.
    await pass(60_000);
    host.portal = { status, times, retryAfter, type: "text/html", body: "<html>", only: /^\["poll"/ };
    host.say("through");
    await pass(passes ? 7000 : 30_000);
    assert.deepEqual([host.hellos.length, socket.state.status, heard], [passes ? 1 : 2, "connected", ["through"]]);
  });
}

for (const [status, times, after] of [[503, 1, 300], [503, 3, 2500], [429, 4, 5500]] as const) {
  test(`a push that a box turns down ${times} times by ${status} is sent again, and was not unanswered meanwhile`, async () => {
    const { socket } = await open({ transports: ["long-polling"] });
    host.portal = { status, times, type: "text/html", body: "<html>", only: /^\["push"/ };
    socket.send("x");
    await pass(after - 50);
    assert.deepEqual(host.heard, []);
    await pass(100);
    assert.deepEqual([host.heard, host.hellos.length], [["x"], 1]);
    await pass(30_000);
    assert.deepEqual([host.heard, host.hellos.length], [["x"], 1]);
  });
}

test("where a box makes one request at a time a conversation goes on", async () => {
  const { fetch } = host;
  let last: Promise<unknown> = Promise.resolve();
  host.fetch = (url, init) => {
    const gone = new Promise<never>((_, reject) => init.signal!.addEventListener("abort", () => reject(new DOMException("", "AbortError"))));
    const mine = last.then(() => (init.signal!.aborted ? gone : fetch.call(host, url, init)));
    last = Promise.race([mine, gone]).catch(() => undefined);
    return Promise.race([mine, gone]);
  };
  const { socket } = await open({ transports: ["long-polling"] });
  host.handle = (session, [, , , body]) => void session.send("msg", 0, JSON.stringify(body), 9);
  await pass(60_000);
  const said: number[] = [];
  for (let count = 0; count < 20; count++) {
    const begin = Date.now();
    socket.send(count);
    while (host.heard.length <= count) await pass(50);
    said.push(Date.now() - begin);
    await pass(2000);
  }
  assert.ok(said[0]! <= 2000 && said.slice(1).every((took) => took <= 600), said.join());
  assert.equal(host.hellos.length, 1);
});

test("what had no welcome when one that began later had is tried last the next time", async () => {
  for (const mode of ["mute", "hang"] as const) {
    host.mode = mode;
    const { socket } = await open({ transports: ["websocket", "long-polling"] });
    await pass(400);
    assert.equal(socket.state.status, "connected");
    host.sessions.clear();
    let dials = 0;
    const { push } = host.sockets;
    host.sockets.push = (...sockets) => {
      dials++;
      return push.apply(host.sockets, sockets);
    };
    await pass(5000);
    assert.deepEqual([socket.state.status, dials], ["connected", 0]);
    await soon(socket.request("x"));
    host.mode = "accept";
    void socket.close();
    await pass(1000);
  }
});

test("a poll that is answered by a welcome was answered by a cache, and has failed", async () => {
  const { states } = await open({ transports: ["long-polling"] });
  const { epoch } = host.session();
  const welcome = JSON.stringify(["welcome", { session: host.session().id, epoch, attachment: 1, received: 0 }]);
  host.portal = { status: 200, times: 1, type: "application/x-ndjson", body: welcome, only: /^\["poll"/ };
  await pass(5000);
  assert.ok(states.some((state) => state.status === "reconnecting" && state.reason.code === "not_ours"));
  assert.deepEqual([host.hellos.length, states.at(-1)!.status], [2, "connected"]);
});

test("a path that was welcomed and never proved is one more failed attempt", async () => {
  host.judge = () => {
    // Behind the welcome comes somebody else.
    host.portal = { status: 502, type: "text/html", body: "<html>" };
    return undefined;
  };
  const { socket, states } = await open({ transports: ["long-polling"], maxAttempts: 1 });
  await pass(1000);
  assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "timed_out"]);
  assert.deepEqual([host.hellos.length, states.some(({ status }) => status === "connected")], [1, true]);
});

test("where a box takes small bodies only, less goes at once, and everything arrives", async () => {
  const { socket } = await open({ transports: ["long-polling"] });
  host.largest = 1000;
  const bodies = Array.from({ length: 100 }, (_, at) => `${at} ${"x".repeat(200)}`);
  for (const body of bodies) socket.send(body);
  await pass(10_000);
  assert.deepEqual(host.heard, bodies);
  assert.equal(socket.state.status, "connected");
  assert.equal(host.hellos.length, 1, "no transport was given up for it");
});

test("a message that no box lets through goes another way, if there is one", async () => {
  const { socket } = await open({ transports: ["long-polling", "websocket"] });
  assert.equal(socket.state.status === "connected" && socket.state.transport, "long-polling");
  host.largest = 1000;
  for (const body of ["small", "x".repeat(2000), "behind"]) socket.send(body);
  await pass(30_000);
  assert.deepEqual(host.heard, ["small", "x".repeat(2000), "behind"]);
});

test("a message that cannot pass at all ends the session with too_large, and is reported", async () => {
  const { socket, told } = await open({ transports: ["long-polling"] });
  host.largest = 1000;
  socket.send("small");
  socket.send("x".repeat(2000));
  await pass(120_000);
  assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "too_large"]);
  assert.deepEqual(host.heard, ["small"]);
  assert.equal(told.filter((text) => text.startsWith("lost")).length, 1);
});

test("what is not of the protocol ends the transport, not the session", async () => {
  const { socket, told } = await open();
  host.sockets[0]!.onmessage!({ data: "<html>" });
  await pass(1000);
  assert.equal(socket.state.status, "connected");
  assert.deepEqual(told, ["resumed websocket"]);
});

test("a duplicated session stops, and does not come back", async () => {
  const { socket } = await open();
  host.sockets[0]!.write([["close", "superseded", "", { attachment: 99 }]]);
  await pass(60_000);
  assert.deepEqual([socket.state.status, reasonOf(socket)], ["closed", "superseded"]);
});

test("a device that slept looks at its path at once", async () => {
  const { socket } = await open();
  host.mode = "refuse";
  // Nothing is told: the wall clock jumps, and the first timer that runs is late.
  mock.timers.setTime(Date.now() + 20_000);
  const { pump } = host;
  host.pump = () => undefined;
  await pass(100);
  assert.equal(socket.state.status, "connected");
  await pass(11_000);
  host.pump = pump;
  assert.equal(socket.state.status, "reconnecting");
});

for (const [answers, expected] of [[true, []], [false, ["resumed websocket"]]] as const) {
  test(`who was held up judges a second or two later, once: ${answers ? "the answer has come by then" : "no answer has"}`, async () => {
    const { socket, told } = await open();
    const { pump } = host;
    host.pump = () => undefined;
    socket.send("x");
    await pass(3100);
    assert.match(host.batches.at(-1)!, /"ping"/, "its answer is due in a second");
    mock.timers.setTime(Date.now() + 10_000);
    await pass(1900);
    assert.equal(socket.state.status, "connected");
    if (answers) host.pump = pump;
    await pass(200);
    host.pump = pump;
    await pass(500);
    assert.deepEqual([socket.state.status, told], ["connected", expected]);
  });
}

test("the page's life is listened to, and no more after close", async () => {
  const listening = new Map<string, () => void>();
  const listen = (name: string, listener: () => void, { signal }: { signal: AbortSignal }) => {
    listening.set(name, listener);
    signal.addEventListener("abort", () => listening.delete(name));
  };
  const document = { visibilityState: "visible", addEventListener: listen };
  Object.assign(globalThis, { document, addEventListener: listen });
  try {
    host.mode = "refuse";
    const { socket } = await open();
    await pass(20_000);
    const { state } = socket;
    assert.ok("retryAt" in state && state.retryAt! > Date.now() + 5000);
    host.mode = "accept";
    // Online again: it does not wait for its time.
    listening.get("online")!();
    await settle();
    assert.equal(socket.state.status, "connected");
    // Seen again: the path is asked whether it lives, and given up if it does not say so.
    host.batches = [];
    listening.get("visibilitychange")!();
    await settle();
    assert.match(host.batches.join(), /\["ping",/);
    assert.equal(socket.state.status, "connected");
    host.pump = () => undefined;
    host.mode = "refuse";
    listening.get("visibilitychange")!();
    await pass(3100);
    assert.equal(socket.state.status, "reconnecting");
    void socket.close();
    await pass(11_000);
    assert.equal(listening.size, 0);
  } finally {
    Object.assign(globalThis, { document: undefined, addEventListener: undefined });
  }
});

test("a listener that throws harms nobody else", async () => {
  const { socket, heard } = await open();
  const faults: unknown[] = [];
  const fault = (error: unknown) => faults.push(error);
  process.prependOnceListener("uncaughtException", fault);
  const others = process.listeners("uncaughtException").filter((listener) => listener !== fault);
  for (const other of others) process.off("uncaughtException", other);
  socket.on("message", () => {
    throw new Error("mine");
  });
  host.say(1);
  await settle();
  for (const other of others) process.on("uncaughtException", other);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(faults.map(String), ["Error: mine"]);
});

test("nothing to choose from is refused", () => {
  assert.throws(() => connect("http://test/live", { transports: [] }), TypeError);
});

test("what worked for an origin is remembered for a while, and tried first", async () => {
  const kept = new Map<string, string>();
  const localStorage = { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, text: string) => kept.set(key, text) };
  const usual = Object.getOwnPropertyDescriptor(globalThis, "localStorage");
  Object.defineProperty(globalThis, "localStorage", { value: localStorage, configurable: true });
  const transports = ["websocket", "long-polling"] as const;
  try {
    host.mode = "refuse";
    const first = await open({ transports });
    host.fetch = ((fetch) => (url: string, init: RequestInit) => {
      host.mode = "accept";
      const answer = fetch.call(host, url, init);
      host.mode = "refuse";
      return answer;
    })(host.fetch);
    await pass(10_000);
    assert.deepEqual(first.socket.state, { status: "connected", transport: "long-polling" });
    void first.socket.close();
    await pass(1000);
    const second = await open({ transports });
    await pass(100);
    assert.deepEqual(second.states.at(-1), { status: "connected", transport: "long-polling" });
    assert.equal(second.states.length, 1, "another was tried before");
    void second.socket.close();
    await pass(1000);
    // Forced, it is no knowledge; and ten minutes are enough.
    assert.equal([...kept.keys()].join(), "throughline http://test");
    kept.set("throughline http://test", JSON.stringify(["long-polling", Date.now() - 600_000]));
    const third = await open({ transports });
    await pass(10_000);
    assert.equal(third.states[0]!.status, "connecting");
    void third.socket.close();
    await pass(1000);
  } finally {
    if (usual) Object.defineProperty(globalThis, "localStorage", usual);
    else Reflect.deleteProperty(globalThis, "localStorage");
  }
});

test("where round trips take seconds, from the begin or from some time on, it lives and all arrives", async () => {
  const sets = [["websocket"], ["long-polling"], ["websocket", "long-polling"]] as const;
  for (const transports of sets)
    for (const [before, after] of [[1500, 1500], [2500, 2500], [4000, 4000], [100, 1500], [100, 2500], [100, 4000]] as const) {
      host = begin();
      host.trip = before;
      host.handle = (session, [, , , body]) => session.send("msg", 0, JSON.stringify(body), 8);
      const { socket, heard, states } = await open({ transports });
      for (let number = 0; number < 60; number++) {
        if (number === 20) host.trip = after;
        socket.send(number);
        await pass(1000);
      }
      const changes = states.length;
      await pass(4 * after);
      const name = `${transports}, ${before} ms, then ${after} ms: ${states.map(({ status }) => status)}`;
      assert.deepEqual(heard, Array.from({ length: 60 }, (_, number) => number), name);
      assert.equal(socket.state.status, "connected", name);
      // A WebSocket may take the place of long-polling.
      assert.ok(states.length <= changes + 1, name);
      socket.close();
      await pass(10_000);
    }
});

/**
 * Breaks the rules of `src/session` one at a time, and says which breaks the simulation finds, or where it does not (what costs
 * only time), `session.test.ts`: `node tests/mutations.mjs`.
 *
 *   SEEDS=n     how many schedules each may take (default 4,000)
 *   ONLY=word   those whose name has it
 *
 * It fails if one is found by neither. A text that is not in its file any more is an error: the list follows the source.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const source = (file) => `${here}../src/session/${file}.ts`;

/** What is broken, in which file, and what stands there instead of what. */
const mutations = [
  // Messages.
  ["a repeat is delivered again", "inbox", "if (seq <= received) {", "if (seq < received) {"],
  ["a repeat is not answered by a receipt", "inbox", "forget();\n        return \"repeat\"", "return \"repeat\""],
  ["a gap is not noticed", "inbox", "if (seq > received + 1) return \"gap\"", "if (seq > received + 9) return \"gap\""],
  ["a gap does not end the transport", "session", "if (arrival === \"gap\" && !push) detach(bound, \"gap\");", ""],
  ["a gap in a push's answer ends it too late", "session", "if (arrival !== \"next\") return;", "if (arrival === \"flood\") return;"],
  ["a flood is taken", "inbox", "if (received > taken && (", "if (received < taken && ("],
  ["a flood is no breach", "session", "if (arrival === \"flood\") fail(\"window\");", ""],
  ["an answer nobody asked for is no breach", "session", "else if (re > outbox.sent_()) fail(\"re\");", "else if (re > outbox.sent_()) return;"],
  ["an answer is given twice", "session", "if (request && requests.delete(re)) {", "if (request) {"],
  ["an answered request counts as open", "session", "openRequests--;", ""],
  // The window.
  ["the peer's messages are not counted", "outbox", "(count < bound.messages && size <= bound.bytes)", "(size <= bound.bytes)"],
  ["the peer's bytes are not counted", "outbox", "(count < bound.messages && size <= bound.bytes)", "(count < bound.messages)"],
  ["one message too many", "outbox", "(count < bound.messages &&", "(count <= bound.messages &&"],
  ["what is not taken does not count", "outbox", "fits(acked + numbered - taken,", "fits(numbered,"],
  ["the window of welcome is ignored", "session", "outbox.window_(welcome.window);", ""],
  ["a large message never passes", "outbox", "!count || (count", "(count"],
  // Replay and receipts.
  ["nothing is replayed on a new attachment", "session", "fence(bound);\n        rewind(bound);", "fence(bound);"],
  ["nothing is replayed after a move", "session", "fence(bound);\n    rewind(bound);\n    doubt();", "fence(bound);\n    doubt();"],
  ["what was told is not said again after a move", "session", "rewind(bound);\n    doubt();", "rewind(bound);"],
  ["a receipt beyond what was sent is no breach", "outbox", "if (received > acked + numbered) return false;", "received = Math.min(received, acked + numbered);"],
  ["a receipt goes back", "session", "return taken === received ? { received } : { received, taken };", "return taken === received ? { received: Math.max(received - 1, 0) } : { received, taken };"],
  ["receipts are never owed", "inbox", "(overdue ||\n        received", "(received"],
  ["a receipt about much waits as one about little", "inbox", "due = Math.min(due, now + delay);", "due = Math.min(due, now + light);"],
  ["no timer for a receipt about little", "inbox", "due = Math.min(due, now + Math.max(light, delay));", ";"],
  ["a question is not answered by a receipt", "inbox", "overdue ||= isUntold() || received > safe;", ""],
  ["who waits does not ask", "outbox", "if (asks) asked = acked + cursor;", "return false;"],
  ["half a window is not told at once", "inbox", "received - toldReceived >= halfMessages ||", ""],
  ["what is taken is never told by itself", "inbox", "(taken > toldTaken && pressing)", "false"],
  ["a candidate's receipt counts as told", "session", "if (carrier() === bound) inbox.tell_();\n    return receipt();", "inbox.tell_();\n    return receipt();"],
  ["a receipt before it is safe", "inbox", "const tellable = () => Math.min(received, safe);", "const tellable = () => received;"],
  // Attachments.
  ["a number is used twice", "session", "createBinding(++highest,", "createBinding(highest || ++highest,"],
  ["lower attachments are not fenced", "session", "other.attachment_ < attachment_ &&", "other.attachment_ < attachment_ - 99 &&"],
  ["a lower candidate attaches after a higher", "session", "fence(bound, false);", ""],
  ["messages go while attach is not answered", "session", "if (first || carrier() !== bound || (bindings[1] && isMoving())) return first;", "if (first || carrier() !== bound) return first;"],
  ["messages go on any attachment", "session", "carrier() !== bound || (bindings[1] && isMoving())", "false"],
  ["a candidate attaches before its proof", "session", "if (isAlone || !bound.pingDue_) sayAttach(bound);", "sayAttach(bound);"],
  ["a candidate does not step in", "session", "if (best) sayAttach(best);", ""],
  ["an older pong proves", "session", "if (!push && !bound.proved_ && value === bound.ping_) prove(bound);", "if (!push && !bound.proved_) prove(bound);"],
  ["somebody else's session is fought for", "session", "(detail.attachment ?? 0) > highest", "(detail.attachment ?? 0) > highest + 1e9"],
  ["another epoch is taken for this session", "session", "if (epoch && epoch !== welcome.epoch) {", "if (epoch && false) {"],
  ["another's welcome is taken", "session", "if (welcome.session !== id || welcome.attachment !== bound.attachment_)", "if (false)"],
  ["frames before welcome are taken", "session", "if (!stage_ && !push && tag !== \"welcome\" && tag !== \"close\")", "if (false)"],
  // Liveness.
  ["silence is never noticed", "session", "heard_ + heartbeat * 1.5", "heard_ + heartbeat * 15"],
  ["a push's answer proves a stream", "session", "if (!push || bound.kind_ === \"websocket\") bound.heard_ = now;", "bound.heard_ = now;"],
  ["pings are not answered", "session", "bound.pongDue_ = [\"pong\"", "bound.pongSaid_ = [\"pong\""],
  ["a path that is not proved is kept", "session", "if (judges && until_ <= now) detach", "if (judges && until_ <= now && !stage_) detach"],
  ["a hello without answer is kept", "session", "if (judges && until_ <= now) detach", "if (judges && until_ <= now && stage_) detach"],
  ["who was held up judges at once", "session", "timeout_(judges = true) {", "timeout_(judges = true) {\n      judges = true;"],
  ["a session that nobody answers is kept", "session", "if (waitingSince + config.unansweredWithin_ <= now) {", "if (waitingSince + config.unansweredWithin_ * 9 <= now) {"],
  ["a path on trial is not asked", "session", "eventful_ && now + silence_ <= trialUntil_! ? silence_ : Infinity", "Infinity"],
  ["a trial asks ever again in a second", "session", "if (bound.tried_) bound.silence_ *= 2;", ""],
  ["a trial goes on for ever", "session", "bound.trialUntil_ ??= now + config.trial_;", "bound.trialUntil_ = Infinity;"],
  ["a stream that holds back is only silent", "http", "if (bound.tried_ && !bound.pingDue_) bound.probed_ = false;", ""],
  ["what forgets silent paths is not learned of", "session", "mortal >= FORGOTTEN &&", "false &&"],
  ["a silence that was outlived once is mortal", "session", "mortal > bound.outlived_", "true"],
  ["a poll that was lost is held as long again", "session", "if (bound.pollOpen_) learn(bound, Math.max(bound.hold_! / 2, SHORT_HOLD));", ""],
  ["silence in a row is not counted", "session", "if (why === \"silent\") mute++;", ""],
  ["what is heard is no end of silence in a row", "session", "if (stage_ === ATTACHED) mute = 0;", ""],
  ["a welcome is an end of silence in a row", "session", "if (stage_ === ATTACHED) mute = 0;", "mute = 0;"],
  ["bytes have no more time where carriers die", "session", "<< Math.min(fruitless, SLOWER), MOST", ", MOST"],
  ["bytes have any time where carriers die", "session", "<< Math.min(fruitless, SLOWER), MOST_FOR_BYTES", "<< fruitless, MOST_FOR_BYTES * 2"],
  ["parts do not lengthen a proof", "http", "bound.until_ = Math.max(bound.until_, by);", ""],
  ["parts lengthen a proof for ever", "http", "if (now - bound.asked_ < LONGEST) bound", "bound"],
  ["parts are silence", "http", "bound.heard_ = now;\n      if (bound.pollOpen_)", "if (bound.pollOpen_)"],
  ["parts are no silence for ever", "http", "if (now - bound.whole_ >= LONGEST) return;", ""],
  ["an empty poll is not whole", "http", "bound.heard_ = bound.whole_ = now;", "bound.heard_ = now;"],
  ["a poll that comes slowly is taken for lost", "http", "if (bound.pollOpen_) bound.probeAt_ = Math.max(bound.probeAt_, by);", ""],
  ["whatever comes lengthens a proof for ever", "session", "now - bound.asked_ < LONGEST_PROOF", "true"],
  // Pushes and polls.
  ["a lost push is not repeated", "http", "if (repeats) outbox_.rewind_();", ""],
  ["a lost ping is not said again", "http", "bound.pingDue_ = !bound.proved_ && bound.ping_ > 0;", ""],
  ["a lost pong is not said again", "http", "bound.pongDue_ ??= bound.pongSaid_;", ""],
  ["receipts in a lost push are not said again", "http", "if (!answered) doubt_();", ""],
  ["pushes fail for ever", "http", "if (!refused && ++bound.unanswered_ >= MAX_UNANSWERED_PUSHES)", "if (++bound.unanswered_ >= 99)"],
  ["a push that waited behind a poll is a lost one", "http", "now_() - bound.polled_ >= STUCK_AFTER", "false"],
  ["every push beside a poll waited behind it", "http", "calm_(bound) > SHORT_HOLD", "true"],
  ["polls are held for long where one request is made at a time", "http", "learn_(bound, SHORT_HOLD);", ""],
  ["the pause after a request was turned down counts as silence", "http", "bound.pausedUntil_ = Math.max(bound.pausedUntil_, now_() + pause);", ""],
  ["a shorter pause ends a longer one", "http", "bound.pausedUntil_ = Math.max(bound.pausedUntil_, now_() + pause);", "bound.pausedUntil_ = now_() + pause;"],
  ["to be turned down is no answer", "http", "if (bound.until_ < Infinity) bound.until_ = answerBy_(bound);", ""],
  ["a push that made no progress is repeated at once", "http", "bound.retryAt_ = now_() + Math.min(", "bound.retryAt_ = Math.min("],
  ["two polls at once", "http", "pollOpen_ || pollAt_ < Infinity) return;", "pollAt_ < Infinity) return;"],
  ["an empty poll is repeated at once", "http", "bound.pollAt_ = now + EMPTY_POLL_PAUSE;", ""],
  // Where carriers die young.
  ["no end is ever careful", "session", "const isCareful = () => fruitless >= CAREFUL;", "const isCareful = () => fruitless < 0;"],
  ["the small steps never double", "outbox", "if (cursor && received >= acked + cursor) stride *= 2;", ""],
  ["the small steps double with every receipt", "outbox", "if (cursor && received >= acked + cursor) stride *= 2;", "stride *= 2;"],
  ["the small steps of a carrier are those of the one before", "outbox", "stride = 1;\n    },", "},"],
  // Closing and loss.
  ["a message is taken after close", "session", "refused ||= seq > inbox.received_();\n      return;", "refused ||= seq > inbox.received_();"],
  ["close does not wait for what was sent", "session", "if (!outbox.held_().messages || peerCloses ||", "if (true || peerCloses ||"],
  ["two that close wait for each other", "session", "(refused && outbox.isHandedOver_())", "false"],
  ["closing is not said", "session", "bound.closingSaid_ = true;\n    return [\"closing\"];", "return;"],
  ["closing is not heard", "session", "peerCloses = true;", ""],
  ["a close has no timeout", "session", "if (closingUntil <= now) finish(closing, \"timeout\");", "closingUntil = closingUntil <= now ? Infinity : closingUntil;"],
  ["the receipt in a close is ignored", "session", "else if (!outbox.acknowledge_(detail.received ?? 0, 0))", "else if (!outbox.acknowledge_(0, 0))"],
  ["a close says too much", "session", "received: inbox.received_() }];", "received: inbox.received_() + 1 }];"],
  ["a candidate's refusal ends the session", "session", "carrier() !== bound ||\n      (!bound.stage_", "(!bound.stage_"],
  ["a close of a transport ends the session", "close", "/^(superseded|moved|draining|overloaded|auth_expired)$/", "/^(superseded|moved)$/"],
  ["what is lost is not reported", "session", "const undelivered = outbox.drain_();", "const undelivered = outbox.drain_().slice(1);"],
  ["messages are accepted after close", "session", "if (phase) return \"closed\";", "if (phase === ENDED) return \"closed\";"],
  ["the outbox has no bound", "session", "if (!outbox.fits_(size, config.outbox_)) return \"full\";", ""],
  ["requests have no bound", "session", "if (tag === \"req\" && openRequests >= config.requests_) return", "if (tag === \"req\" && openRequests >= 9999) return"],
  // What was kept.
  ["what was received before a reload comes again", "session", "createInbox(config.window_, undefined, saved.received_)", "createInbox(config.window_)"],
  ["what was sent before a reload is not known", "session", "outbox.renumber_(welcome.received, welcome.taken ?? welcome.received);", ""],
  ["what the server had not taken before a reload is forgotten", "outbox", "for (; taken > took; taken--) untaken.push(0);", ""],
  ["an attachment's number comes again after a reload", "session", "let highest = saved.highest_ ?? 0;", "let highest = 0;"],
];

const seeds = process.env.SEEDS ?? "4000";
const only = process.env.ONLY ?? "";
const folder = mkdtempSync(`${tmpdir()}/mutations-`);
let missed = 0;
let errors = 0;
for (const [name, file, from, to] of mutations) {
  if (!name.includes(only)) continue;
  const text = readFileSync(source(file), "utf8");
  if (text.split(from).length !== 2) {
    console.log(`ERROR   ${name}: stands ${text.split(from).length - 1} times in ${file}.ts`);
    errors++;
    continue;
  }
  await build({
    entryPoints: [`${here}sim.test.ts`, `${here}session.test.ts`],
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    logLevel: "error",
    plugins: [
      {
        name: "mutate",
        setup({ onLoad }) {
          onLoad({ filter: new RegExp(`/src/session/${file}\\.ts$`) }, () => ({ contents: text.replace(from, () => to), loader: "ts" }));
        },
      },
    ],
  });
  /** What a test says of the break; undefined if it finds none. */
  const tell = (test, pattern) => {
    const run = spawnSync(process.execPath, [`${folder}/${test}.test.mjs`], { env: { ...process.env, SEEDS: seeds }, encoding: "utf8", timeout: 240_000 });
    if (run.status === null) return "it hangs";
    return run.status ? (pattern.exec(`${run.stdout}${run.stderr}`)?.[1] ?? "it fails") : undefined;
  };
  const why = tell("sim", /(seed \d+: .*)/) ?? tell("session", /(?:not ok \d+ - |✖ )(.*)/);
  if (!why) missed++;
  console.log(`${why ? "found " : "MISSED"}  ${name}${why ? `: ${why.slice(0, 110)}` : ""}`);
}
rmSync(folder, { recursive: true });
console.log(`${missed} were not found`);
process.exit(missed || errors ? 1 : 0);

import { binary, connect } from "./live?client.js";
import { rooms } from "./live?rooms.js";
import * as Y from "yjs";

const find = (id) => document.getElementById(id);
const [words, count, area, notice] = "words count text notice".split(" ").map(find);
const NAMES = { websocket: "WebSocket", sse: "SSE", "long-polling": "long-polling" };

const doc = new Y.Doc();
const text = doc.getText("text");
const socket = rooms(connect("./live", { encoding: binary }));
const room = socket.room("document");
// For curious people, and for tests.
Object.assign(window, { socket, room, doc });

// Between the document and the page.

/** What differs between two texts: from where on, how much went, what came. No character is cut in two. */
const difference = (before, after) => {
  const [old, now] = [[...before], [...after]];
  let from = 0;
  while (from < old.length && from < now.length && old[from] === now[from]) from++;
  let behind = 0;
  while (behind < Math.min(old.length, now.length) - from && old.at(-1 - behind) === now.at(-1 - behind)) behind++;
  const length = (chars) => chars.join("").length;
  return [length(old.slice(0, from)), length(old.slice(from, old.length - behind)), now.slice(from, now.length - behind).join("")];
};
area.addEventListener("input", () => {
  const [from, gone, come] = difference(text.toString(), area.value);
  doc.transact(() => {
    text.delete(from, gone);
    text.insert(from, come);
  });
});
text.observe((event) => {
  if (event.transaction.local) return;
  // Where the cursor stands is a place between characters: it stays there.
  const ends = [area.selectionStart, area.selectionEnd].map((end) => {
    let at = 0;
    for (const { retain = 0, insert = "", delete: gone = 0 } of event.delta) {
      at += retain;
      if (at > end) break;
      if (insert && at < end) end += insert.length;
      if (gone) end -= Math.min(gone, Math.max(end - at, 0));
      at += insert.length;
    }
    return end;
  });
  const { scrollTop } = area;
  area.value = text.toString();
  area.setSelectionRange(...ends);
  area.scrollTop = scrollTop;
});

// Between the document and the server.

/** What was written and not sent, because too much waited. */
let behind = false;
doc.on("update", (update, origin) => {
  if (origin === "server") return;
  try {
    socket.send(update);
  } catch {
    behind = true;
  }
});
room.on("message", ({ body }) => Y.applyUpdate(doc, body, "server"));

/** Asks for what is missing here, and sends what is missing there. */
const meet = async () => {
  behind = false;
  const answer = await socket.request(Y.encodeStateVector(doc));
  const split = 4 + new DataView(answer.buffer, answer.byteOffset).getUint32(0);
  Y.applyUpdate(doc, answer.subarray(split), "server");
  const update = Y.encodeStateAsUpdate(doc, answer.subarray(4, split));
  // Two bytes say that there is nothing.
  if (update.length > 2) socket.send(update);
};
const meetAgain = () => meet().catch(() => (behind = true));
// A stream that begins, or has a gap: what came before, and what was sent into a session that was lost, is not known.
room.on("begin", meetAgain);
room.on("missed", meetAgain);
room.on("presence", ({ members }) => (count.textContent = `${members.length} ${members.length === 1 ? "page" : "pages"}`));
const failed = (error) => Object.assign(notice, { hidden: false, textContent: `That did not work: ${error.message}` });
room.join({ presence: true }).catch(failed);

const render = () => {
  const { state } = socket;
  document.body.dataset.status = state.status;
  words.textContent = {
    connecting: state.reason ? "not connected" : "connecting …",
    connected: `connected over ${NAMES[state.transport]}`,
    reconnecting: "connection lost",
    closed: "closed: reload this page",
  }[state.status];
  notice.hidden = state.status !== "reconnecting";
  area.readOnly = state.status === "closed";
  if (state.status === "connected" && behind) void meetAgain();
};
socket.on("state", render);
render();

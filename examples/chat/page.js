import { binary, connect, ThroughlineError } from "./live?client.js";

const find = (id) => document.getElementById(id);
const [words, transport, lines, notice, form, name, text] = "words transport lines notice form name text".split(" ").map(find);
const NAMES = { websocket: "WebSocket", sse: "SSE", "long-polling": "long-polling" };

// `?transport=sse` allows only that one; `?binary` speaks in the other encoding.
const query = new URLSearchParams(location.search);
const only = query.getAll("transport");
const socket = connect("./live", {
  ...(only.length && { transports: only }),
  encoding: query.has("binary") ? binary : undefined,
});
// For curious people, and for tests.
window.socket = socket;

name.value = sessionStorage.getItem("name") ?? `guest-${Math.floor(Math.random() * 9000 + 1000)}`;
name.addEventListener("change", () => sessionStorage.setItem("name", name.value));
for (const option of transport.options) option.disabled = only.length > 0 && option.value !== "" && !only.includes(option.value);

const show = (kind, from, said) => {
  const main = lines.parentElement;
  const atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 80;
  const line = document.createElement("li");
  line.className = kind;
  if (from) line.append(Object.assign(document.createElement("b"), { textContent: from }));
  line.append(said);
  lines.append(line);
  if (lines.children.length > 2000) lines.firstChild.remove();
  if (atEnd || kind.includes("mine")) main.scrollTop = main.scrollHeight;
  return line;
};

// What was said here and has not come back from the room: it waits, or is on its way.
const pending = new Map();

socket.on("message", ({ body }) => {
  const { from, text: said, mark } = body ?? {};
  const mine = pending.get(mark);
  if (mine) {
    // It takes its place in the order of the room.
    mine.remove();
    pending.delete(mark);
  }
  if (from === "chat") show("event", "", said);
  else show(mine ? "mine" : "", from, said);
});

socket.on("resumed", () => show("event", "", "back, and nothing was missed"));
socket.on("lost", ({ unknown }) => {
  show("event lost", "", "the server has forgotten this session; a new one begins");
  for (const { mark, text: said } of unknown) {
    pending.get(mark)?.remove();
    pending.delete(mark);
    show("event lost", "", `may not have arrived: “${said}”`);
  }
});

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
const render = () => {
  const { state, waiting } = socket;
  document.body.dataset.status = state.status;
  const inSeconds = state.retryAt && Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
  const again = inSeconds === undefined ? "trying now …" : `trying again in ${inSeconds}\u00a0s`;
  words.textContent = {
    connecting: state.reason ? `not connected, ${again}` : "connecting …",
    connected: `connected over ${NAMES[state.transport]}`,
    reconnecting: `connection lost, ${again}`,
    closed: "closed",
  }[state.status];
  const queued = state.status === "connected" ? 0 : waiting.messages;
  const parts = [];
  if (state.status === "closed") parts.push(`This page is closed: ${state.reason.message}.`, "Reload to join again.");
  else if (state.status !== "connected") {
    if (state.reason) parts.push(sentence(state.reason.message));
    parts.push(queued ? `${queued} waiting to be sent.` : "What you say now is kept and sent later.");
  }
  notice.hidden = state.status === "connected" || (state.status === "connecting" && !state.reason);
  notice.textContent = parts.join(" ");
  for (const control of [...form.elements, transport]) control.disabled = state.status === "closed";
  for (const line of pending.values()) line.classList.toggle("queued", state.status !== "connected");
};
socket.on("state", render);
setInterval(render, 1000);
render();

transport.addEventListener("change", () => socket.moveTo(transport.value || undefined));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const said = text.value.trim();
  if (!said) return;
  const mark = Math.random().toString(36).slice(2);
  try {
    socket.send({ from: name.value || "somebody", text: said, mark });
  } catch (error) {
    const full = error instanceof ThroughlineError && error.code === "full";
    show("event lost", "", full ? "too much is waiting already: not sent" : error.message);
    return;
  }
  pending.set(mark, show(socket.state.status === "connected" ? "mine pending" : "mine pending queued", "", said));
  text.value = "";
  render();
});

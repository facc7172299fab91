import { connectWith, longPolling, memory, roaming, sse, websocket } from "./live?client.js";
import { rooms } from "./live?rooms.js";

const find = (id) => document.getElementById(id);
const [words, count, people, lines, notice, form, name, doing, go] = "words count people lines notice form name doing go".split(" ").map(find);
const NAMES = { websocket: "WebSocket", sse: "SSE", "long-polling": "long-polling" };

const me = new URLSearchParams(location.search).get("as")?.trim();
// A form of its own brings the name into the address: a reload, and another tab of the same address, are the same person.
if (me) come();
else name.focus();

function come() {
  name.value = me;
  name.disabled = true;
  doing.hidden = false;
  go.textContent = "Tell";
  // Without the part `page`, which says goodbye when a page is left: so a reload is no leave, and a tab that is closed is
  // one when its session's window has passed. Nor does that part look when the network is back: so it is tried more often.
  const given = [websocket, sse, longPolling, roaming, memory];
  const socket = rooms(connectWith("./live", given, { token: () => me, backoff: { base: 300, cap: 3_000 } }));
  const room = socket.room("everybody");
  // For curious people, and for tests.
  Object.assign(window, { socket, room });

  const nameOf = (who) => who.principal ?? "someone";
  const tell = (kind, text) => {
    const main = lines.parentElement;
    const atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 80;
    lines.append(Object.assign(document.createElement("li"), { className: `event ${kind}`, textContent: text }));
    if (lines.children.length > 200) lines.firstChild.remove();
    if (atEnd) main.scrollTop = main.scrollHeight;
  };
  const card = ({ who, meta }) => {
    const called = nameOf(who);
    const line = document.createElement("li");
    line.classList.toggle("you", who.principal === me);
    line.dataset.initial = [...called][0].toUpperCase();
    line.style.setProperty("--hue", [...called].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 360, 7));
    const title = Object.assign(document.createElement("b"), { textContent: called });
    line.append(title, Object.assign(document.createElement("span"), { textContent: typeof meta === "string" ? meta : "here" }));
    return line;
  };
  room.on("presence", ({ members, joined, gone }) => {
    const sorted = [...members].sort((a, b) => nameOf(a.who).localeCompare(nameOf(b.who)));
    people.replaceChildren(...sorted.map(card));
    count.textContent = `${members.length} ${members.length === 1 ? "person" : "people"}`;
    if (joined) tell("joined", `${nameOf(joined.who)} came`);
    if (gone) tell("gone", `${nameOf(gone)} left`);
  });
  room.on("left", ({ message }) => tell("lost", `no longer in the room: ${message}`));

  const render = () => {
    const { state } = socket;
    document.body.dataset.status = state.status;
    const inSeconds = state.retryAt && Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
    const again = inSeconds === undefined ? "trying now …" : `trying again in ${inSeconds}\u00a0s`;
    words.textContent = {
      connecting: state.reason ? `not connected, ${again}` : "connecting …",
      connected: `here, over ${NAMES[state.transport]}`,
      reconnecting: `connection lost, ${again}`,
      closed: "closed",
    }[state.status];
    notice.hidden = state.status !== "reconnecting" && state.status !== "closed";
    notice.textContent = state.status === "closed" ? "This page is closed: reload to come again." : "Others still see you for a while; who is here may have changed.";
  };
  socket.on("state", render);
  setInterval(render, 1000);
  render();

  const failed = (error) => tell("lost", `that did not work: ${error.message}`);
  const told = sessionStorage.getItem(`doing ${me}`);
  doing.value = told ?? "";
  room.join({ presence: true, ...(told && { meta: told }) }).catch(failed);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const now = doing.value.trim();
    sessionStorage.setItem(`doing ${me}`, now);
    room.update(now || undefined).catch(failed);
  });
}

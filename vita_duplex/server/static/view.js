// The page's elements. Shows what it is told to; decides nothing.

import { OUTPUT_RATE } from "./audio.js";

const MOODS = {
  idle: ["Ready", "Press the button and speak."],
  loading: ["The server is starting", ""],
  broken: ["The server could not start", ""],
  unreachable: ["The server does not answer", "Trying again …"],
  connecting: ["Connecting", ""],
  asking: ["Connecting", "Allow the microphone if the browser asks."],
  listening: ["Listening", "Just speak."],
  typing: ["Connected", "Type a question, or press the button to speak."],
  hearing: ["You are speaking", ""],
  thinking: ["Thinking", ""],
  speaking: ["Speaking", "Speak to interrupt."],
  held: ["Held", "Paused. Was that meant for me?"],
  lost: ["Not connected", "Press the button to reconnect."],
};

const MEANINGS = {
  "<1>": "question",
  "<2>": "not for the model",
  "<3>": "typed",
};

const IGNORED = {
  verdict: "ignored",
  deadline: "ignored: no verdict in time",
  failed: "ignored: the monitor failed",
};

const SECONDS = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const at = (id) => document.getElementById(id);

export class View {
  constructor() {
    this.shown = new Map(); // entry id -> its element
    this.roles = null;
  }

  bind({ press, ask, stopReply, unblockSound }) {
    at("talk").addEventListener("click", press);
    at("stop-reply").addEventListener("click", stopReply);
    at("unblock").addEventListener("click", unblockSound);
    document.addEventListener("keydown", ({ key }) => key === "Escape" && stopReply());
    at("typed").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = at("question").value.trim();
      if (text === "") return;
      at("question").value = "";
      ask(text);
    });
  }

  /** A question the server refused goes back to where it was typed, unless another is there already. */
  giveBack(text) {
    at("question").value ||= text;
  }

  /** `button` is "Start", "Stop" or "Reconnect". */
  mood(mood, button, hint = null) {
    const [title, usual] = MOODS[mood];
    document.body.dataset.mood = mood;
    setText(at("mood"), title);
    setText(at("hint"), hint ?? usual);
    setText(at("talk-label"), button);
    at("talk").dataset.does = button;
    at("stop-reply").hidden = mood !== "thinking" && mood !== "speaking" && mood !== "held";
  }

  loading(status) {
    const progress = at("progress");
    progress.hidden = at("parts").hidden = status === null;
    if (status === null) return;
    const { progress: done } = status.loading ?? {};
    if (done == null) progress.removeAttribute("value");
    else progress.value = done;
    const parts = Object.entries(status.parts ?? {});
    at("parts").replaceChildren(...parts.map(([name, ready]) => element("li", { class: ready ? "ready" : "" }, name)));
  }

  /** `level` is the loudness of the microphone, 0 to 1. */
  level(level) {
    at("talk").style.setProperty("--level", level.toFixed(2));
  }

  voice(voice) {
    document.body.classList.toggle("voice", voice);
  }

  soundBlocked(blocked) {
    at("unblock").hidden = !blocked;
  }

  problem(problem) {
    at("problem").hidden = problem === null;
    at("problem-title").textContent = problem?.message ?? "";
    at("problem-advice").textContent = problem?.advice ?? "";
  }

  numbers(text) {
    at("numbers").hidden = text === "";
    setText(at("numbers"), text);
  }

  showRoles(roles) {
    if (roles === this.roles) return;
    const before = this.roles;
    this.roles = roles;
    for (const role of ["generator", "monitor"]) {
      setText(at(role), roles?.[role] ?? "–");
      at(role).dataset.instance = instanceColour(roles?.[role]);
    }
    setText(at("swaps"), String(roles?.swaps ?? 0));
    if (before && roles && before.generator === roles.monitor && before.monitor === roles.generator) crossOver();
  }

  showEntries(entries) {
    at("empty").hidden = entries.length > 0;
    const log = at("log");
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    const ids = new Set(entries.map((entry) => entry.id));
    for (const [id, node] of this.shown) {
      if (ids.has(id)) continue;
      node.remove();
      this.shown.delete(id);
    }
    for (const entry of entries) {
      if (!this.shown.has(entry.id)) this.shown.set(entry.id, log.appendChild(newEntry(entry)));
      fill(this.shown.get(entry.id), entry);
    }
    if (follow) log.scrollTop = log.scrollHeight;
  }
}

function newEntry({ kind }) {
  const node = element("article", { class: `entry ${kind}` });
  if (kind === "utterance" || kind === "reply") node.append(element("p", { class: "words" }));
  if (kind !== "mark") node.append(element("p", { class: "facts" }));
  return node;
}

function fill(node, entry) {
  switch (entry.kind) {
    case "mark":
      setText(node, entry.text);
      break;
    case "utterance":
      setText(node.firstChild, entry.text ?? "(spoken)"); // not every model writes down what it hears
      setFacts(node.lastChild, [token(entry), ...certainty(entry)]);
      break;
    case "overheard":
      setFacts(node.lastChild, [token(entry), { text: IGNORED[entry.reason] }, ...certainty(entry)]);
      break;
    case "reply":
      // Screen readers announce a reply once, when it is whole.
      node.setAttribute("aria-busy", entry.status === "in_progress");
      node.dataset.status = entry.status;
      setText(node.firstChild, entry.text || "…");
      setFacts(node.lastChild, [author(entry), ...ending(entry), ...latency(entry.timeline)]);
      break;
  }
}

const token = ({ state }) => state && { class: "token", data: { state }, text: state, title: MEANINGS[state] };

const author = ({ instance }) =>
  instance && {
    class: "instance",
    data: { instance: instanceColour(instance) },
    text: instance,
    title: "The instance that answered",
  };

function* certainty({ state, p1 }) {
  if (MEANINGS[state]) yield { text: MEANINGS[state] };
  if (p1 != null && state !== "<3>") yield { text: `p1 ${p1.toFixed(2)}`, title: "How sure the model is that this was meant for it" };
}

function* ending({ status, heard }) {
  const seconds = heard > 0 ? ` after ${(heard / OUTPUT_RATE).toFixed(1)} s` : "";
  if (status === "cancelled") yield { class: "cut", text: `cut${seconds}` };
  if (status === "failed" || status === "incomplete") yield { class: "cut", text: `failed${seconds}` };
}

function* latency(timeline) {
  if (timeline?.first_audio_sent == null) return;
  const asked = timeline.speech_end ?? timeline.begun; // a typed question has no speech
  const since = (name) => SECONDS.format(timeline[name] - asked);
  const steps = ["verdict", "first_token", "first_audio_sent"].filter((name) => timeline[name] != null);
  yield {
    text: `${since("first_audio_sent")} s to first sound`,
    title: "Seconds since the end of the question: " + steps.map((name) => `${name.replaceAll("_", " ")} ${since(name)}`).join(", "),
  };
}

/** The two badges start in each other's place and move home. */
function crossOver() {
  const [generator, monitor] = [at("generator"), at("monitor")];
  const [from, to] = [generator.getBoundingClientRect(), monitor.getBoundingClientRect()];
  const [x, y] = [to.left - from.left, to.top - from.top];
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const timing = { duration: calm ? 0 : 600, easing: "cubic-bezier(.3, 1.3, .5, 1)" };
  generator.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], timing);
  monitor.animate([{ transform: `translate(${-x}px, ${-y}px)` }, { transform: "none" }], timing);
}

const instances = [];

/** The first instance seen is "0", the other "1", wherever they sit. */
function instanceColour(name) {
  if (name == null) return "";
  if (!instances.includes(name)) instances.push(name);
  return String(instances.indexOf(name) % 2);
}

function setFacts(node, facts) {
  const wanted = facts.filter(Boolean);
  const key = JSON.stringify(wanted);
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.replaceChildren(
    ...wanted.map(({ class: name = "", data = {}, title = "", text }) => {
      const fact = element("span", { class: name, title }, text);
      Object.assign(fact.dataset, data);
      return fact;
    }),
  );
}

/** Touch the document only when something changed: a live region would speak again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function element(tag, attributes, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

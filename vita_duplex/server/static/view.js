// The talk page's elements. Shows what it is told to; decides nothing.

import { OUTPUT_RATE } from "./loudspeaker.js";
import { picturesAmong } from "./pictures.js";
import { meaning, say } from "./words.js";

/** @returns {any} elements of every kind */
const at = (id) => document.getElementById(id);

export class View {
  constructor() {
    this.shown = new Map(); // entry id -> its element
    this.roles = null;
    this.trouble = null;
  }

  bind({ press, ask, hasPictures, stopReply, unblockSound, addPictures, share, correct }) {
    this.correct = correct;
    at("talk").addEventListener("click", press);
    at("stop-reply").addEventListener("click", stopReply);
    at("unblock").addEventListener("click", unblockSound);
    at("camera").addEventListener("click", () => share("camera"));
    at("screen").addEventListener("click", () => share("screen"));
    at("screen").hidden = !navigator.mediaDevices?.getDisplayMedia; // phones share no screen
    document.addEventListener("keydown", ({ key }) => key === "Escape" && !at("settings").open && stopReply());
    at("picture").addEventListener("change", () => {
      addPictures(picturesAmong(at("picture").files));
      at("picture").value = "";
    });
    document.addEventListener("paste", ({ clipboardData }) => addPictures(picturesAmong(clipboardData.files)));
    document.addEventListener("dragover", (event) => event.preventDefault()); // or the browser would open what is dropped
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      addPictures(picturesAmong(event.dataTransfer.files));
    });
    at("typed").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = at("question").value.trim();
      if (text === "" && !hasPictures()) return;
      at("question").value = "";
      ask(text);
    });
  }

  /** A question the server refused goes back to where it was typed, unless another is there already. */
  giveBack(text) {
    at("question").value ||= text;
  }

  /** Pictures that will go with the next question. */
  attached(urls, onRemove) {
    at("attached").hidden = urls.length === 0;
    at("attached").replaceChildren(
      ...urls.map((url, i) => {
        const button = element("button", { type: "button", class: "thumb", "aria-label": say("do.remove", { name: i + 1 }) });
        button.append(element("img", { src: url, alt: "" }), element("span", { "aria-hidden": "true" }, "×"));
        button.addEventListener("click", () => onRemove(url));
        return button;
      }),
    );
  }

  /** `button` is "Start", "Stop" or "Reconnect". */
  mood(mood, button, hint) {
    document.body.dataset.mood = mood;
    setText(at("mood"), say(`mood.${mood}`));
    setText(at("hint"), hint);
    setText(at("talk-label"), say(`do.${button}`));
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

  sharing(sharing) {
    for (const id of ["camera", "screen"]) {
      const key = sharing ? "talk.camera.stop" : `talk.${id}`;
      at(id).setAttribute("aria-label", say(key));
      at(id).title = say(key);
      at(id).setAttribute("aria-pressed", String(sharing));
    }
  }

  /** What was really sent of a camera or screen, the `count`th picture. */
  preview(picture, count = 0) {
    at("seen").hidden = picture === null;
    if (picture === null) return;
    at("seen-picture").src = picture.url;
    at("seen-picture").alt = say("talk.camera.preview");
    setText(at("seen-facts"), say("talk.camera.sent", { ...picture, count }));
  }

  /** @param {any} problem a Problem, any other error, or null for none */
  problem(problem) {
    this.trouble = problem;
    at("problem").hidden = problem === null;
    if (problem === null) return;
    const { key = "other", values = {}, detail = problem.message } = problem;
    setText(at("problem-title"), say(`problem.${key}`, values));
    setText(at("problem-advice"), detail || say(`problem.${key}.advice`, values));
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
      if (!this.shown.has(entry.id)) this.shown.set(entry.id, log.appendChild(newEntry(entry, this.correct)));
      fill(this.shown.get(entry.id), entry);
    }
    if (follow) log.scrollTop = log.scrollHeight;
  }
}

function newEntry(entry, correct) {
  const { kind } = entry;
  const node = element("article", { class: `entry ${kind}` });
  if (kind === "utterance") node.append(element("div", { class: "shown" }));
  if (kind === "utterance" || kind === "reply") node.append(element("p", { class: "words" }));
  if (kind === "utterance" || kind === "overheard") node.append(corrector(entry, correct));
  if (kind !== "mark") node.append(element("p", { class: "facts" }));
  return node;
}

/** One tap says that the verdict was wrong. */
function corrector(entry, correct) {
  const button = element("button", { type: "button", class: "correct" });
  button.addEventListener("click", () => {
    button.hidden = true;
    correct(entry);
  });
  return button;
}

function setCorrector(node, { kind, correct }) {
  const button = node.querySelector(".correct");
  button.hidden = !correct;
  setText(button, say(kind === "overheard" ? "do.accept" : "do.reject"));
}

function fill(node, entry) {
  switch (entry.kind) {
    case "mark":
      setText(node, say(entry.key, entry.values));
      break;
    case "utterance":
      if (entry.pictures && !node.firstChild.hasChildNodes()) {
        node.firstChild.append(...entry.pictures.map((src) => element("img", { src, alt: "" })));
      }
      setText(node.querySelector(".words"), entry.text ?? say("talk.spoken")); // not every model writes down what it hears
      setCorrector(node, entry);
      setFacts(node.lastChild, [token(entry), ...certainty(entry)]);
      break;
    case "overheard":
      setCorrector(node, entry);
      setFacts(node.lastChild, [token(entry), { text: say(`ignored.${entry.reason}`) }, ...certainty(entry)]);
      break;
    case "reply":
      // Screen readers announce a reply once, when it is whole.
      node.setAttribute("aria-busy", String(entry.status === "in_progress"));
      node.dataset.status = entry.status;
      setReply(node.firstChild, entry);
      setFacts(node.lastChild, [author(entry), ...ending(entry), ...latency(entry.timeline)]);
      break;
  }
}

/** What was announced and not heard is struck out. */
function setReply(node, { text, unheard = "", status }) {
  const cut = status === "cancelled" ? unheard : "";
  const key = `${text}\n${cut}`;
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.textContent = text || (cut ? "" : "…");
  if (!cut) return;
  node.append(element("span", { class: "hidden" }, ` ${say("talk.unheard")} `), element("s", {}, cut));
}

const token = ({ state }) => state && { class: "token", data: { state }, text: state, title: meaning(state) };

const author = ({ instance }) =>
  instance && {
    class: "instance",
    data: { instance: instanceColour(instance) },
    text: instance,
    title: say("reply.instance"),
  };

function* certainty({ state, p1 }) {
  if (meaning(state)) yield { text: meaning(state) };
  if (p1 != null && state !== "<3>") yield { text: `p1 ${p1.toFixed(2)}`, title: say("state.p1") };
}

function* ending({ status, heard }) {
  const seconds = (heard / OUTPUT_RATE).toFixed(1);
  if (status === "cancelled") yield { class: "cut", text: heard > 0 ? say("reply.cut", { seconds }) : say("reply.cut.unheard") };
  if (status === "failed" || status === "incomplete") yield { class: "cut", text: say("reply.failed") };
}

function* latency(timeline) {
  if (timeline?.first_audio_sent == null) return;
  const asked = timeline.speech_end ?? timeline.begun; // a typed question has no speech
  const since = (name) => (timeline[name] - asked).toFixed(2);
  const steps = ["verdict", "first_token", "first_audio_sent"].filter((name) => timeline[name] != null);
  yield {
    text: say("reply.first_sound", { seconds: since("first_audio_sent") }),
    title: say("reply.steps", { steps: steps.map((name) => `${name.replaceAll("_", " ")} ${since(name)}`).join(", ") }),
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
  for (const [name, value] of Object.entries(attributes)) if (value !== "" || name === "alt") node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

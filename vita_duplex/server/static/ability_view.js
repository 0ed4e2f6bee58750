// The ability page's elements. Shows what it is told to; decides nothing.

import { meaning, say } from "./words.js";

/** @returns {any} elements of every kind */
const at = (id) => document.getElementById(id);

export class AbilityView {
  bind(ability, language) {
    at("language").value = language;
    at("language").addEventListener("change", () => ability.speak(at("language").value));
    at("model").addEventListener("change", () => ability.choose(at("model").value));
    at("reset").addEventListener("click", () => ability.reset());
    at("stop").addEventListener("click", () => ability.stop());
    at("record").addEventListener("click", () => ability.record());
    at("files").addEventListener("change", () => {
      ability.addFiles([...at("files").files]);
      at("files").value = "";
    });
    at("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      ability.ask(at("question").value.trim());
    });
    at("question").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      at("ask").requestSubmit();
    });
    document.addEventListener("paste", ({ clipboardData }) => ability.addFiles([...clipboardData.files]));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      ability.addFiles([...event.dataTransfer.files]);
    });
  }

  models(names) {
    at("model").replaceChildren(...names.map((name) => new Option(name, name)));
  }

  takes(modalities) {
    const names = modalities?.map((one) => say(`ability.${one}`));
    at("takes").textContent = names ? say("ability.takes", { modalities: names.join(" · ") }) : "";
  }

  /** What the model lacks of what would be sent, if anything: said before it is sent. */
  unable(model, modality) {
    at("send").disabled = modality !== undefined;
    if (modality !== undefined) this.problem({ key: "unable", values: { model, modality: say(`ability.${modality}`) } });
    else if (this.trouble?.key === "unable") this.problem(null);
  }

  /** @param {any} problem a Problem, or null for none; its words are `ability.` ones where there are any */
  problem(problem) {
    this.trouble = problem;
    at("problem").hidden = problem === null;
    if (problem === null) return;
    const { key = "other", values = {}, detail = "" } = problem;
    const own = ["unable", "kind", "large", "refused", "broken"].includes(key) ? "ability" : "problem";
    at("problem-title").textContent = say(`${own}.${key}`, values);
    at("problem-advice").textContent = detail || (key === "refused" ? "" : say(`${own}.${key}.advice`, values));
  }

  attached(files, onRemove) {
    at("attached").hidden = files.length === 0;
    at("attached").replaceChildren(
      ...files.map((file) => {
        const remove = element("button", { type: "button", class: "small", "aria-label": say("do.remove", { name: file.name }) }, "×");
        remove.addEventListener("click", () => onRemove(file));
        const thumb = element("div", { class: "thumb" });
        thumb.append(medium(file), remove);
        return thumb;
      }),
    );
  }

  recording(on) {
    at("record").setAttribute("aria-pressed", String(on));
    at("record").textContent = say(on ? "ability.record.stop" : "ability.record");
  }

  running(on) {
    at("stop").hidden = !on;
    at("send").hidden = on;
  }

  asked(text, files, copy) {
    at("empty").hidden = true;
    at("question").value = "";
    this.question = element("article", { class: "entry utterance", "aria-label": say("ability.you") });
    const shown = element("div", { class: "shown" });
    shown.append(...files.map(medium));
    const button = element("button", { type: "button", class: "small" }, say("ability.curl"));
    button.addEventListener("click", async () => {
      await copy();
      button.textContent = say("ability.copied");
    });
    const facts = element("p", { class: "facts" });
    facts.append(button);
    this.question.append(shown, ...(text ? [element("p", { class: "words" }, text)] : []), facts);
    this.reply = element("article", { class: "entry reply", "aria-label": say("ability.them"), "aria-busy": "true" });
    this.reply.append(element("p", { class: "words" }, "…"), element("p", { class: "facts" }));
    at("log").append(this.question, this.reply);
    this.reply.scrollIntoView({ block: "end" });
  }

  answer(answer, whole) {
    const [words, facts] = this.reply.children;
    words.textContent = answer.text || (whole ? say("ability.empty") : "…");
    this.reply.setAttribute("aria-busy", String(!whole));
    this.reply.classList.toggle("failed", answer.error !== null);
    facts.replaceChildren(...factsOf(answer));
    this.reply.scrollIntoView({ block: "end" });
  }

  takeBack(text) {
    this.question.remove();
    this.reply.remove();
    at("question").value ||= text;
    at("empty").hidden = at("log").querySelector(".entry") !== null;
  }

  clear() {
    for (const entry of at("log").querySelectorAll(".entry")) entry.remove();
    at("empty").hidden = false;
    this.problem(null);
  }
}

function* factsOf({ verdict, first, total, usage, reason }) {
  if (verdict?.state) yield token(verdict);
  if (verdict?.p1 != null && verdict.state !== "<3>") yield element("span", { title: say("state.p1") }, `p1 ${verdict.p1.toFixed(2)}`);
  if (verdict?.transcript) yield element("span", {}, `“${verdict.transcript}”`);
  if (first !== null) yield element("span", {}, say("ability.first", { seconds: first.toFixed(2) }));
  if (total !== null && reason !== null) yield element("span", {}, say("ability.total", { seconds: total.toFixed(2) }));
  if (usage) yield element("span", {}, say("ability.tokens", { prompt: usage.prompt_tokens, completion: usage.completion_tokens }));
  if (reason !== null && reason !== "stop") yield element("span", { class: "cut" }, reason);
}

function token({ state }) {
  const node = element("span", { class: "token", title: meaning(state) }, state);
  node.dataset.state = state;
  return node;
}

function medium({ kind, url, name }) {
  if (kind === "image") return element("img", { src: url, alt: name });
  return element(kind, { src: url, controls: "controls", "aria-label": name });
}

function element(tag, attributes, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

// The ability page: ask with any mix of text, sound, pictures and film.

import { AbilityView } from "./ability_view.js";
import { appear } from "./appearance.js";
import { Answer, BODY_LIMIT, chunks, curl, kindOf, question, request } from "./chat.js";
import { INPUT_RATE, Microphone } from "./microphone.js";
import { Problem } from "./problem.js";
import { apiKey, authorization } from "./realtime.js";
import { keep, kept } from "./settings.js";
import { wavUrl } from "./wav.js";

const CHAT = new URL("v1/chat/completions", document.baseURI);
const MODELS = new URL("v1/models", document.baseURI);
const LOOK_MS = 2000;

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

class Ability {
  constructor(view) {
    this.view = view;
    this.settings = kept(localStorage);
    this.models = new Map(); // name -> modalities
    this.model = null;
    this.messages = []; // the chat so far, as it is sent
    this.files = []; // {kind, url, name}: they go with the next question
    this.running = null; // an AbortController
    this.recording = null; // {microphone, frames}
  }

  // ---- models

  async findModels() {
    while (this.models.size === 0) {
      const answer = await fetch(MODELS, { headers: authorization() }).catch(() => null);
      const { data = [], error = null } = answer ? await answer.json() : {};
      if (error) this.view.problem(new Problem("refused", error.message));
      this.models = new Map(data.map(({ id, input_modalities: takes }) => [id, takes]));
      if (data.length === 0) await sleep(LOOK_MS);
    }
    this.view.models([...this.models.keys()]);
    this.choose([...this.models.keys()][0]);
  }

  choose(model) {
    this.model = model;
    this.view.takes(this.models.get(model));
    this.check();
  }

  /** A modality that the model lacks, among what would be sent. */
  get unable() {
    const takes = this.models.get(this.model);
    const earlier = this.messages.flatMap(({ content }) => (Array.isArray(content) ? content : []));
    const kinds = [...earlier.map(({ type }) => type.replace("input_", "").replace("_url", "")), ...this.files.map(({ kind }) => kind)];
    return takes ? kinds.find((kind) => kind !== "text" && !takes.includes(kind)) : undefined;
  }

  check() {
    this.view.unable(this.model, this.unable);
  }

  // ---- the question

  async addFiles(files) {
    this.view.problem(null);
    for (const file of files) {
      const kind = kindOf(file);
      if (kind === null) this.view.problem(new Problem("kind"));
      else this.add(kind, await dataUrl(file), file.name);
    }
  }

  add(kind, url, name) {
    this.files = [...this.files, { kind, url, name }];
    this.showFiles();
  }

  showFiles() {
    this.view.attached(this.files, (gone) => {
      this.files = this.files.filter((one) => one !== gone);
      this.showFiles();
    });
    this.check();
  }

  async record() {
    if (this.recording) {
      this.recording.microphone.close();
      this.add("audio", wavUrl(this.recording.frames, INPUT_RATE), "recording.wav");
      this.recording = null;
      this.view.recording(false);
      return;
    }
    this.view.problem(null);
    const frames = [];
    try {
      if (!window.isSecureContext) throw new Problem("insecure", location.origin);
      const microphone = await Microphone.open(this.settings, {
        onFrame: (frame) => frames.push(frame),
        onEnded: () => this.record(),
        onBlocked: () => {},
      });
      this.recording = { microphone, frames };
      this.view.recording(true);
    } catch (error) {
      this.view.problem(error);
    }
  }

  async ask(text) {
    if (this.running || this.unable || (text === "" && this.files.length === 0)) return;
    const files = this.files;
    const body = request(this.model, [...this.messages, question(text, files)]);
    if (JSON.stringify(body).length > BODY_LIMIT) {
      this.view.problem(new Problem("large", "", { megabytes: BODY_LIMIT / 2 ** 20 }));
      return;
    }
    this.view.problem(null);
    this.view.asked(text, files, () => navigator.clipboard.writeText(curl(CHAT.href, body, apiKey() !== null)));
    this.files = [];
    this.showFiles();
    await this.answer(body, () => this.giveBack(text, files));
  }

  async answer(body, giveBack) {
    this.running = new AbortController();
    this.view.running(true);
    const answer = new Answer();
    const problem = await this.stream(body, answer).catch((error) =>
      error.name === "AbortError" ? null : new Problem("broken", error instanceof SyntaxError ? error.message : ""),
    );
    this.running = null;
    this.view.running(false);
    if (problem) this.view.problem(problem);
    if (problem && answer.text === "") {
      giveBack();
      return;
    }
    this.view.answer(answer, true);
    this.messages = [...body.messages, { role: "assistant", content: answer.text }];
  }

  /** Lets `answer` grow; returns what went wrong, if anything. */
  async stream(body, answer) {
    const began = performance.now();
    const { signal } = this.running;
    const sent = { ...authorization(), "Content-Type": "application/json" };
    const response = await fetch(CHAT, { method: "POST", headers: sent, body: JSON.stringify(body), signal });
    if (!response.ok) {
      const { error } = await response.json().catch(() => ({ error: { message: `${response.status} ${response.statusText}` } }));
      return new Problem("refused", error.message);
    }
    for await (const chunk of chunks(response.body)) {
      answer.take(chunk, (performance.now() - began) / 1000);
      this.view.answer(answer, false);
    }
    return answer.error ? new Problem("broken", answer.error.message) : null;
  }

  /** A question that got no answer is asked again, or changed; the chat does not have it. */
  giveBack(text, files) {
    this.view.takeBack(text);
    this.files = [...files, ...this.files];
    this.showFiles();
  }

  stop() {
    this.running?.abort();
  }

  reset() {
    this.stop();
    this.messages = [];
    this.files = [];
    this.view.clear();
    this.showFiles();
  }

  speak(language) {
    this.settings = { ...this.settings, language };
    keep(localStorage, this.settings);
    appear(this.settings);
    this.view.takes(this.models.get(this.model));
    this.view.recording(this.recording !== null);
    this.check();
  }
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

const view = new AbilityView();
const ability = new Ability(view);
appear(ability.settings);
view.bind(ability, ability.settings.language);
ability.findModels();

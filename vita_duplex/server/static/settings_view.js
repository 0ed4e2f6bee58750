// The settings' dialog.

import { appear } from "./appearance.js";
import { authorization } from "./realtime.js";
import { DEFAULTS, keep, kept, sessionFields } from "./settings.js";
import { say } from "./words.js";

const VOICES = "v1/audio/voices";

/** @returns {any} elements of every kind */
const at = (id) => document.getElementById(id);

export class SettingsView {
  /** `onChange(names)` comes after what is set has changed. */
  constructor(onChange) {
    this.onChange = onChange;
    this.settings = kept(localStorage);
    this.own = {}; // the server's values for what is left empty
    this.voices = []; // names of those the server has
    appear(this.settings);
    this.dialog = at("settings");
    this.form = this.dialog.querySelector("form");
    at("open-settings").addEventListener("click", () => this.open());
    at("reset-settings").addEventListener("click", () => this.take(DEFAULTS));
    this.form.addEventListener("change", () => this.take(this.read()));
    this.fill();
  }

  open() {
    this.fill();
    this.listDevices();
    this.listVoices();
    this.dialog.showModal();
  }

  /** Take `session.created`: what a session of this server has without our wishes. */
  serversOwn({ audio, vita }) {
    const { threshold, silence_duration_ms: silence } = audio.input.turn_detection ?? {};
    const { barge_in, verdict_threshold } = vita ?? {};
    this.own = { threshold, silence, barge_in, verdict_threshold, voice: audio.output?.voice };
    this.fill();
  }

  sessionFields(inputRate, outputRate) {
    return sessionFields(this.settings, this.own, this.voices, inputRate, outputRate);
  }

  fill() {
    const { barge_in, voice } = this.own;
    this.form.elements.barge_in.options[0].text = ofServer(barge_in && say(`settings.barge_in.${barge_in}`));
    listOptions(this.form.elements.voice, ofServer(voice), this.voices.map((name) => [name, name]), this.settings.voice);
    at("voices").hidden = this.voices.length < 2;
    for (const [name, value] of Object.entries(this.settings)) {
      const field = this.form.elements[name];
      if (field.type === "checkbox") field.checked = value;
      else field.value = value;
    }
    for (const name of ["verdict_threshold", "threshold", "silence"]) {
      const value = this.own[name];
      this.form.elements[name].placeholder = value == null ? "" : say("settings.servers", { value });
    }
  }

  read() {
    const entries = Object.entries(DEFAULTS).map(([name, usual]) => {
      const field = this.form.elements[name];
      if (typeof usual === "boolean") return [name, field.checked];
      if (!field.validity.valid) return [name, this.settings[name]];
      return [name, typeof usual === "number" ? Number(field.value) : field.value];
    });
    return Object.fromEntries(entries);
  }

  take(settings) {
    const names = Object.keys(DEFAULTS).filter((name) => settings[name] !== this.settings[name]);
    this.settings = Object.freeze({ ...settings });
    keep(localStorage, this.settings);
    appear(this.settings);
    this.fill();
    if (names.includes("language")) this.listDevices();
    this.onChange(names);
  }

  /** Before the microphone was allowed once, browsers tell neither names nor ids. */
  async listDevices() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    this.listKind(devices, "audioinput", "microphone");
    this.listKind(devices, "audiooutput", "speaker");
    this.fill();
  }

  listKind(devices, kind, name) {
    const found = devices.filter((one) => one.kind === kind && one.deviceId && one.deviceId !== "default");
    const listed = found.map(({ deviceId, label }) => [deviceId, label]);
    listOptions(this.form.elements[name], say("settings.default"), listed, this.settings[name]);
  }

  /** One voice is no choice, and a server that names none has one. */
  async listVoices() {
    try {
      const answer = await fetch(new URL(VOICES, document.baseURI), { headers: authorization() });
      this.voices = (await answer.json()).voices ?? [];
    } catch {
      return; // the server is gone: what it said before may still hold
    }
    this.fill();
  }
}

const ofServer = (value) => (value ? say("settings.servers", { value }) : say("settings.server"));

/** Fill a select with what there is, `[value, text]` each, behind the choice of somebody else. */
function listOptions(select, others, listed, wanted) {
  const gone = wanted !== "" && !listed.some(([value]) => value === wanted); // chosen once, not there now
  const options = [...listed, ...(gone ? [[wanted, "–"]] : [])].map(([value, text]) => new Option(text, value));
  select.replaceChildren(new Option(others, ""), ...options);
}

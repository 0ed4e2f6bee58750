// The settings' dialog.

import { appear } from "./appearance.js";
import { DEFAULTS, keep, kept } from "./settings.js";
import { say } from "./words.js";

/** @returns {any} elements of every kind */
const at = (id) => document.getElementById(id);

export class SettingsView {
  /** `onChange(names)` comes after what is set has changed. */
  constructor(onChange) {
    this.onChange = onChange;
    this.settings = kept(localStorage);
    this.own = {}; // the server's values for what is left empty
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
    this.dialog.showModal();
  }

  /** What a session of this server has without our wishes. */
  serversOwn(detection) {
    this.own = { threshold: detection?.threshold, silence: detection?.silence_duration_ms };
    this.fill();
  }

  fill() {
    for (const [name, value] of Object.entries(this.settings)) {
      const field = this.form.elements[name];
      if (field.type === "checkbox") field.checked = value;
      else field.value = value;
    }
    for (const name of ["threshold", "silence"]) {
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
    const options = found.map(({ deviceId, label }) => new Option(label, deviceId));
    this.form.elements[name].replaceChildren(new Option(say("settings.default"), ""), ...options);
    const wanted = this.settings[name];
    if (wanted && !found.some(({ deviceId }) => deviceId === wanted)) {
      this.form.elements[name].append(new Option("–", wanted)); // chosen once, not plugged in now
    }
  }
}

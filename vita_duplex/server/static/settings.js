// What a person has chosen; kept in this browser.

const PLACE = "vita-duplex";

export const DEFAULTS = Object.freeze({
  language: "", // "en", "zh"; empty: as the browser
  theme: "auto", // "light", "dark"
  microphone: "", // device ids; empty: the system's choice
  speaker: "",
  echo: true,
  noise: true,
  gain: true,
  interrupt: true,
  threshold: "", // empty: the server's own
  silence: "",
  instructions: "",
  frames: 1, // camera pictures a second
  side: 448, // pixels of their longer side: one tile of VITA's
});

/** @returns {typeof DEFAULTS} what is kept, without what is unknown or of the wrong type */
export function kept(storage) {
  let found = {};
  try {
    found = JSON.parse(storage.getItem(PLACE)) ?? {};
  } catch {
    // not ours, or storage is forbidden
  }
  const known = Object.entries(DEFAULTS).map(([name, usual]) => [
    name,
    typeof found[name] === typeof usual ? found[name] : usual,
  ]);
  return Object.freeze(Object.fromEntries(known));
}

export function keep(storage, settings) {
  try {
    storage.setItem(PLACE, JSON.stringify(settings));
  } catch {
    // storage is full or forbidden: the settings hold until the page is closed
  }
}

/** The fields of `session.update` that say so to the server. */
export function sessionFields({ threshold, silence, interrupt, instructions }, inputRate, outputRate) {
  const detection = { type: "server_vad", interrupt_response: interrupt };
  if (threshold !== "") detection.threshold = Math.min(1, Math.max(0, Number(threshold)));
  if (silence !== "") detection.silence_duration_ms = Math.min(10000, Math.max(64, Math.round(Number(silence))));
  const input = { format: { type: "audio/pcm", rate: inputRate }, turn_detection: detection };
  const output = { format: { type: "audio/pcm", rate: outputRate } };
  return { type: "realtime", instructions, audio: { input, output } };
}

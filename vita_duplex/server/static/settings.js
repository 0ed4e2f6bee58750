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
  voice: "", // empty: the server's own, here and below
  barge_in: "", // "hold", "verdict", "off"
  verdict_threshold: "",
  threshold: "",
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

const fraction = (text) => Math.min(1, Math.max(0, Number(text)));
const given = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null));

/**
 * The fields of `session.update` that say so to the server. `own` are its values of the same names, as far as they are
 * known: what was wished for and no longer is goes back to them. A `voice` that is none of `voices` stays here.
 */
export function sessionFields(settings, own, voices, inputRate, outputRate) {
  const { silence, instructions } = settings;
  const number = (name) => (settings[name] === "" ? own[name] : fraction(settings[name]));
  const pause = silence === "" ? null : Math.min(10000, Math.max(64, Math.round(Number(silence))));
  const detection = { type: "server_vad", ...given({ threshold: number("threshold"), silence_duration_ms: pause }) };
  const input = { format: { type: "audio/pcm", rate: inputRate }, turn_detection: detection };
  const voice = voices.includes(settings.voice) ? settings.voice : own.voice;
  const output = { format: { type: "audio/pcm", rate: outputRate }, ...given({ voice }) };
  const vita = given({ barge_in: settings.barge_in || own.barge_in, verdict_threshold: number("verdict_threshold") });
  return { type: "realtime", instructions, audio: { input, output }, vita };
}

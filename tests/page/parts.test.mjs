import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./load.mjs";

const { default: english } = await load("words.en.js");
const { default: chinese } = await load("words.zh.js");
const { DEFAULTS, keep, kept, sessionFields } = await load("settings.js");
const { audioEvent } = await load("realtime.js");
const { within } = await load("pictures.js");

test("both languages have the same words to say, with the same things filled in", () => {
  assert.deepEqual(Object.keys(chinese).sort(), Object.keys(english).sort());
  const holes = (text) => [...text.matchAll(/\{\w+\}/g)].map(([hole]) => hole).sort();
  for (const key of Object.keys(english)) assert.deepEqual(holes(chinese[key]), holes(english[key]), key);
});

test("settings survive a visit; what is unknown or of another type does not", () => {
  const storage = new Map();
  storage.getItem = (name) => storage.get(name) ?? null;
  storage.setItem = (name, value) => storage.set(name, value);
  assert.deepEqual(kept(storage), DEFAULTS);
  keep(storage, { ...DEFAULTS, language: "zh", echo: "yes", more: 1 });
  assert.deepEqual(kept(storage), { ...DEFAULTS, language: "zh" });
  storage.setItem("vita-duplex", "no JSON");
  assert.deepEqual(kept(storage), DEFAULTS);
});

const fields = (wanted, own = {}, voices = []) => sessionFields({ ...DEFAULTS, ...wanted }, own, voices, 16000, 24000);

test("what is left to the server is not sent to it", () => {
  const left = fields({});
  assert.deepEqual(left.audio.input.turn_detection, { type: "server_vad" });
  assert.deepEqual([left.vita, Object.keys(left.audio.output)], [{}, ["format"]]);
  const { audio, vita } = fields({ threshold: "0.7", silence: "20", barge_in: "verdict", verdict_threshold: "3" });
  assert.deepEqual(audio.input.turn_detection, { type: "server_vad", threshold: 0.7, silence_duration_ms: 64 });
  assert.deepEqual(vita, { barge_in: "verdict", verdict_threshold: 1 });
});

test("what is no longer wished for goes back to what the server had", () => {
  const own = { threshold: 0.4, silence: 300, barge_in: "hold", verdict_threshold: 0, voice: "a" };
  const { audio, vita } = fields({}, own, ["a", "b"]);
  assert.deepEqual(audio.input.turn_detection, { type: "server_vad", threshold: 0.4 });
  assert.deepEqual([vita, audio.output.voice], [{ barge_in: "hold", verdict_threshold: 0 }, "a"]);
});

test("a voice is asked for where the server has it", () => {
  assert.equal(fields({ voice: "b" }, { voice: "a" }, ["a", "b"]).audio.output.voice, "b");
  assert.equal(fields({ voice: "c" }, { voice: "a" }, ["a", "b"]).audio.output.voice, "a");
  assert.equal("voice" in fields({ voice: "c" }).audio.output, false);
});

test("a binary frame is audio of a response, little-endian", () => {
  const frame = Uint8Array.of(7, 0, 0, 0, 1, 2, 0, 0, 1, 0, 254, 255, 255, 127, 0, 128).buffer;
  const { response_id, event_id, pcm } = audioEvent(frame);
  assert.deepEqual([response_id, event_id, ...pcm], ["resp_7", "event_513", 1, -2, 32767, -32768]);
});

test("pictures are made smaller, never larger, and keep their shape", () => {
  assert.deepEqual(within(448, 1280, 720), [448, 252]);
  assert.deepEqual(within(448, 100, 300), [100, 300]);
  assert.deepEqual(within(448, 5000, 1), [448, 1]);
});

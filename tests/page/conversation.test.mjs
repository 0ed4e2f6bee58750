import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./load.mjs";

const { Conversation } = await load("conversation.js");

const created = (id) => ({ type: "response.created", response: { id } });
const audio = (response_id) => ({ type: "response.output_audio.delta", response_id, pcm: Int16Array.of(1, -2) });
const itemOf = (response_id, id) => ({ type: "response.output_item.added", response_id, item: { id } });
const heard = (response_id, transcript) => ({ type: "vita.heard", response_id, transcript });
const words = (response_id, delta) => ({ type: "response.output_audio_transcript.delta", response_id, delta });
const done = (id, status) => ({ type: "response.done", response: { id, status } });
const hold = (response_id) => ({ type: "vita.hold", response_id });
const resume = (response_id) => ({ type: "vita.resume", response_id });
const speech = (speaking) => ({ type: "vita.speech", speaking });
const spoken = (id, transcript) => added(id, { type: "input_audio", transcript });
const typed = (id, text) => added(id, { type: "input_text", text });
const added = (id, part) => ({ type: "conversation.item.added", item: { id, role: "user", content: [part] } });
const query = (state, p1) => ({ type: "vita.verdict", state, p1, accepted: true, reason: "verdict" });
const noise = (p1, reason = "verdict") => ({ type: "vita.verdict", state: "<2>", p1, accepted: false, reason, transcript: null });

/** What the loudspeaker is told, in short. */
function play(conversation, ...events) {
  const commands = events.flatMap((event) => conversation.receive(event));
  return commands.map((command) => [command.do, command.response].filter(Boolean).join(" "));
}

/** The mood after each step; a step is an event of the server or a report of the playback worklet. */
function moods(conversation, ...steps) {
  return steps.map((step) => {
    if (step.why) conversation.played(step);
    else conversation.receive(step);
    return conversation.mood;
  });
}

test("a turn goes from listening through thinking and speaking back to listening", () => {
  const conversation = new Conversation();
  const seen = moods(
    conversation,
    speech(true),
    speech(false),
    query("<1>", 0.9),
    created("r1"),
    audio("r1"),
    { why: "started", response: "r1", played: 128 },
    done("r1", "completed"),
    { why: "drained", response: "r1", played: 4 },
  );
  const wanted = "hearing thinking listening thinking thinking speaking speaking listening".split(" ");
  assert.deepEqual(seen, wanted);
});

test("after a cancelled reply the loudspeaker is flushed and later audio of it is dropped", () => {
  const conversation = new Conversation();
  const commands = play(conversation, created("r1"), audio("r1"), done("r1", "cancelled"), audio("r1"), created("r2"), audio("r2"));
  assert.deepEqual(commands, ["push r1", "flush", "push r2"]);
  assert.equal(conversation.entries[0].status, "cancelled");
});

test("words of a cut reply that come late are not added to it", () => {
  const conversation = new Conversation();
  play(conversation, created("r1"), words("r1", "Once upon"), done("r1", "cancelled"), words("r1", " a time"));
  assert.equal(conversation.entries[0].text, "Once upon");
});

test("an ignored utterance holds and resumes the reply and leaves a token, no words", () => {
  const conversation = new Conversation();
  const commands = play(conversation, created("r1"), audio("r1"), hold("r1"), noise(0.1), resume("r1"));
  assert.deepEqual(commands, ["push r1", "hold r1", "resume r1"]);
  const [, overheard] = conversation.entries;
  assert.deepEqual(overheard, { id: 2, kind: "overheard", state: "<2>", p1: 0.1, reason: "verdict" });
});

test("the last utterance that was left alone, and the last that was answered, can be corrected once", () => {
  const conversation = new Conversation();
  const verdict = (utterance, accepted, state = accepted ? "<1>" : "<2>") => ({ type: "vita.verdict", state, p1: 0.5, accepted, reason: "verdict", utterances: [utterance] });
  const item = (id) => ({ type: "conversation.item.added", item: { id, role: "user", content: [{ type: "input_audio", transcript: "words" }] } });
  play(conversation, verdict(1, false), verdict(2, false), verdict(3, true), item("a"), verdict(4, true, "<3>"), item("b"));
  const corrections = conversation.entries.map(({ correct }) => correct);
  assert.deepEqual(corrections, [undefined, { type: "vita.utterance.accept", utterance: 2 }, { type: "vita.utterance.reject", utterance: 3 }, undefined]);
  play(conversation, verdict(5, true), item("c"));
  const last = conversation.entries.at(-1);
  assert.deepEqual(conversation.takeCorrection(last), { type: "vita.utterance.reject", utterance: 5 });
  assert.equal(last.correct, undefined);
});

test("holds and resumes of another reply than the present one are ignored", () => {
  const conversation = new Conversation();
  const commands = play(conversation, hold("r0"), created("r1"), hold("r0"), resume("r0"), done("r1", "cancelled"), hold("r1"));
  assert.deepEqual(commands, ["flush"]);
});

test("each utterance of one verdict carries its token, and so does a typed question", () => {
  const conversation = new Conversation();
  play(conversation, query("<1>", 0.8), spoken("u1", "one"), spoken("u2", null), created("r1"), done("r1", "cancelled"));
  play(conversation, typed("t1", "three"), query("<3>", 0), created("r2"));
  const utterances = conversation.entries.filter(({ kind }) => kind === "utterance");
  assert.deepEqual(
    utterances.map(({ text, state, p1 }) => [text, state, p1]),
    [["one", "<1>", 0.8], [null, "<1>", 0.8], ["three", "<3>", 0]],
  );
});

test("of a cut reply the words that were announced and not heard are told apart", () => {
  const conversation = new Conversation();
  play(conversation, created("r1"), words("r1", "Once upon a time"), heard("r1", "Once upon"), done("r1", "cancelled"));
  const [{ text, unheard }] = conversation.entries;
  assert.deepEqual([text, unheard], ["Once upon", " a time"]);
});

test("a report of the loudspeaker names the item that is acknowledged", () => {
  const conversation = new Conversation();
  play(conversation, created("r1"), itemOf("r1", "item_reply_1"), audio("r1"));
  assert.equal(conversation.played({ why: "playing", response: "r1", played: 2400 }), "item_reply_1");
  assert.equal(conversation.played({ why: "flushed", response: null, played: 0 }), null);
});

test("pictures of a camera are seen and not said", () => {
  const conversation = new Conversation();
  const picture = { type: "input_image" };
  play(conversation, added("seen_1", picture));
  assert.deepEqual(conversation.entries, []);
  conversation.receive({ type: "conversation.item.added", item: { id: "t1", role: "user", content: [picture, { type: "input_text", text: "What?" }] } });
  conversation.showPictures("t1", ["data:image/jpeg;base64,AA=="]);
  const [{ text, pictures }] = conversation.entries;
  assert.deepEqual([text, pictures.length], ["What?", 1]);
});

test("what becomes of speech during a reply is as the server last said", () => {
  const conversation = new Conversation();
  const session = (type, barge_in) => ({ type, session: { vita: { barge_in } } });
  play(conversation, session("session.created", "hold"), session("session.updated", "off"));
  assert.equal(conversation.bargeIn, "off");
});

test("unknown events change nothing", () => {
  const conversation = new Conversation();
  assert.deepEqual(play(conversation, { type: "rate_limits.updated" }, { type: "vita.later" }), []);
  assert.deepEqual(conversation.entries, []);
});

test("the page forgets the oldest entries of a long talk", () => {
  const conversation = new Conversation();
  for (let i = 0; i < 1000; i++) conversation.receive(created(`r${i}`));
  assert.equal(conversation.entries.length, 200);
  assert.equal(conversation.replies.size, 200);
});

import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./load.mjs";

const { Timeline } = await load("timeline.js");
const { Picture } = await load("timeline_picture.js");

const created = (id) => ({ type: "response.created", response: { id } });
const done = (id, status) => ({ type: "response.done", response: { id, status } });
const audio = (response_id) => ({ type: "response.output_audio.delta", response_id });
const words = (response_id) => ({ type: "response.output_audio_transcript.delta", response_id });
const report = (why, response) => ({ why, response });
const roles = (generator, monitor) => ({ type: "vita.roles", generator, monitor });
const verdict = { type: "vita.verdict", state: "<1>", p1: 0.95, accepted: true, reason: "verdict", transcript: "a secret" };

/** Steps are [time, event of the server or report of the worklet]. */
function lived(...steps) {
  const timeline = new Timeline();
  timeline.begin(0);
  for (const [now, step] of steps) step.why ? timeline.played(step, now) : timeline.note(step, now);
  return timeline;
}

const TURN = [
  [0, roles("a", "b")],
  [1, { type: "vita.speech", speaking: true }],
  [2, { type: "vita.speech", speaking: false }],
  [2.5, verdict],
  [2.6, created("r1")],
  [2.7, words("r1")],
  [2.8, audio("r1")],
  [2.9, report("started", "r1")],
  [4, report("held", "r1")],
  [5, report("resumed", "r1")],
  [6, audio("r1")],
  [6.5, report("drained", "r1")],
  [6.6, done("r1", "completed")],
];

test("a turn leaves its speech, its verdict, and what was generated, sent and heard", () => {
  const { speech, verdicts, replies } = lived(...TURN);
  assert.deepEqual(speech, [{ from: 1, to: 2 }]);
  assert.deepEqual(verdicts, [{ at: 2.5, state: "<1>", p1: 0.95, accepted: true, reason: "verdict" }]);
  const [{ instance, generated, sent, heard }] = replies;
  assert.equal(instance, "a");
  assert.deepEqual(generated, { from: 2.7, to: 2.7 });
  assert.deepEqual(sent, { from: 2.8, to: 6 });
  assert.deepEqual(heard, [{ from: 2.9, to: 4 }, { from: 5, to: 6.5 }]);
});

test("the server's record is moved to the page's clock by the smallest delay seen", () => {
  const record = { response_id: "r1", begun: 12.4, speech_end: 11.5, first_token: 12.5, generated: 13, first_audio_sent: 12.7, finished: 16 };
  const [reply] = lived(...TURN, [6.7, { type: "vita.timeline", record }]).replies;
  assert.ok(Math.abs(reply.latency - 1.2) < 1e-9);
  assert.ok(Math.abs(reply.asked - 2.2) < 1e-9);
  assert.ok(Math.abs(reply.generated.to - 3.7) < 1e-9);
});

test("a reply that is cut is heard no longer, and the next session's replies are others", () => {
  const timeline = lived([0, created("r1")], [1, report("started", "r1")], [2, done("r1", "cancelled")]);
  timeline.begin(3);
  timeline.note(created("r1"), 4);
  timeline.played(report("started", "r1"), 5);
  assert.deepEqual(timeline.replies.map(({ heard }) => heard), [[{ from: 1, to: 2 }], [{ from: 5, to: null }]]);
});

test("levels keep the loudest of each tenth of a second, for an hour", () => {
  const timeline = new Timeline();
  timeline.level(0.2, 0.01);
  timeline.level(0.6, 0.05);
  timeline.level(0.1, 0.31);
  assert.deepEqual(timeline.levels, [0.6, 0, 0, 0.1]);
  for (let t = 0; t < 4000; t += 0.1) timeline.level(0.5, t);
  assert.equal(timeline.levels.length, 36000);
  assert.ok(Math.abs(timeline.levelsFrom - 4000) <= 1);
});

test("the log holds no words", () => {
  const log = JSON.stringify(lived(...TURN).log(new Date(0)));
  assert.ok(!log.includes("secret"));
  assert.equal(JSON.parse(log).replies.length, 1);
});

test("the picture shows what lies in its stretch, and only that", () => {
  const say = (key) => key;
  const timeline = lived(...TURN);
  const shown = (from, to) => new Picture(timeline, { from, to, now: 10, width: 600, say }).svg();
  const whole = shown(0, 10);
  for (const kind of ["t-speech", "t-yes", "t-instance-0", "t-held", "&lt;1&gt;"]) assert.ok(whole.includes(kind), kind);
  assert.equal(whole.match(/timeline\.heard: a r1/g).length, 2);
  assert.ok(!shown(7, 10).includes("timeline.heard:"));
});

test("places and times of a picture are each other's inverse", () => {
  const picture = new Picture(new Timeline(), { from: 20, to: 50, now: 50, width: 800, say: String });
  for (const t of [20, 33.3, 50]) assert.ok(Math.abs(picture.at(picture.x(t)) - t) < 1e-9);
});

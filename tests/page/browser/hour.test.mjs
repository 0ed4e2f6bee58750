// Long talks. An hour in a minute: the socket is the test's, which tells the page what a server would in 700 turns.
// And a minute of it as it is, from a server, listened to for gaps.

import assert from "node:assert/strict";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { test } from "node:test";

import { browse, serve } from "./fixtures.mjs";
import { ask, drained, microphone, openPage, sleep, until } from "./harness.mjs";

const TURNS = 700; // of five seconds
const WORDS = "An answer of the usual length, in a sentence or two.";
const PCM = Buffer.alloc(2 * 2400); // 100 ms

const IDLE_MS = 60; // a process with nothing to do that wakes up later than this has to share the machine with others

const server = await serve("tests/page/browser/once.yaml");
const browser = await browse(microphone([], 120));

/** One turn as the server tells it; every third is cut by the next. */
function* turn(number, event) {
  const [id, item] = [`resp_${number}`, `item_reply_${number}`];
  yield event("vita.speech", { speaking: true });
  yield event("vita.speech", { speaking: false });
  yield event("vita.verdict", { state: "<1>", p1: 0.9, accepted: true, reason: "verdict" });
  yield event("conversation.item.added", { item: { id: `u${number}`, role: "user", content: [{ type: "input_audio", transcript: "A question?" }] } });
  yield event("response.created", { response: { id, status: "in_progress" } });
  yield event("response.output_item.added", { response_id: id, item: { id: item } });
  yield event("response.output_audio_transcript.delta", { response_id: id, delta: WORDS });
  const header = Buffer.alloc(8);
  header.writeUInt32LE(number, 0);
  yield Buffer.concat([header, PCM]);
  if (number % 2 === 0) {
    yield event("vita.hold", { response_id: id });
    yield event("vita.resume", { response_id: id });
  }
  yield event("response.output_audio_transcript.done", { response_id: id, transcript: WORDS });
  yield event("response.done", { response: { id, status: number % 3 === 0 ? "cancelled" : "completed" } });
  yield event("vita.roles", { generator: number % 2 ? "a" : "b", monitor: number % 2 ? "b" : "a", swaps: number });
  yield event("vita.timeline", { record: { response_id: id, turn: number, begun: number, speech_end: number, first_token: number + 0.1, generated: number + 0.2, first_audio_sent: number + 0.3, finished: number + 1, holds: [] } });
}

test("an hour of talk: the page grows no further than its transcript", async (t) => {
  const page = await openPage(browser, server.url, { watched: false }); // its notes would grow
  let socket;
  await page.routeWebSocket("**/v1/realtime*", (routed) => (socket = routed));
  await page.reload();
  await page.click("#talk");
  await until(() => socket);
  await page.focus("#timeline");
  for (let i = 0; i < 4; i++) await page.keyboard.press("+"); // two seconds, so that its picture is empty when it is quiet
  let count = 0;
  const event = (type, fields) => JSON.stringify({ type, event_id: `event_${++count}`, ...fields });
  socket.onMessage((message) => {
    if (typeof message !== "string" || JSON.parse(message).type !== "session.heartbeat") return;
    socket.send(event("session.heartbeat", { timeout_s: 15 }));
  });
  const detection = { type: "server_vad", threshold: 0.5, silence_duration_ms: 500 };
  socket.send(event("session.created", { resume_token: "t", resume_s: 30, session: { audio: { input: { turn_detection: detection } } } }));
  const session = await page.context().newCDPSession(page);
  await session.send("HeapProfiler.enable");
  const size = async () => {
    for (let i = 0; i < 3; i++) await session.send("HeapProfiler.collectGarbage");
    const { nodes } = await session.send("Memory.getDOMCounters");
    const { usedSize } = await session.send("Runtime.getHeapUsage");
    return { nodes, megabytes: usedSize / 1e6 };
  };
  const quiet = async () => {
    // What it was sent last may still be played, and pass through the timeline.
    for (let before = await size(); ; ) {
      await sleep(4000);
      const now = await size();
      if (now.nodes === before.nodes) return now;
      before = now;
    }
  };
  const sizes = [];
  for (let number = 1; number <= TURNS; number++) {
    for (const message of turn(number, event)) socket.send(message);
    if (number % 10 === 0) await sleep(120); // let it draw, and play what it was sent
    if (number === 200 || number === TURNS) sizes.push(await quiet());
  }
  const [early, late] = sizes;
  t.diagnostic(JSON.stringify(sizes));
  assert.equal(await page.locator(".entry").count(), 200);
  assert.ok(late.nodes < early.nodes + 200, "more nodes than those of the transcript");
  assert.ok(late.megabytes < early.megabytes + 2, "records of 500 turns more in the timeline, nothing else");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a minute of speech from the server has no gap, wherever nothing else kept the machine busy", async (t) => {
  const page = await openPage(browser, server.url);
  await page.click("#talk");
  const underruns = () => page.evaluate(() => window.seen.reports.at(-1)?.underruns ?? 0);
  const lateness = monitorEventLoopDelay({ resolution: 10 });
  const [judged, busy] = [[], []];
  for (let count = 1; count <= 8; count++) {
    const before = await underruns();
    lateness.reset();
    lateness.enable();
    await ask(page, "a question");
    await drained(page, count);
    lateness.disable();
    const late = lateness.max / 1e6 - 10;
    (late <= IDLE_MS ? judged : busy).push({ late: Math.round(late), gaps: (await underruns()) - before });
  }
  t.diagnostic(`answers while the machine was idle: ${JSON.stringify(judged)}, while it was busy: ${JSON.stringify(busy)}`);
  assert.deepEqual(judged.filter(({ gaps }) => gaps > 0), []);
  if (judged.length === 0) t.skip("the machine was busy during every answer: gaps are no fault of the page then");
  await page.context().close();
});

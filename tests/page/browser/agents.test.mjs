// OpenAI's own browser SDK over WebRTC, unmodified: a conversation with an interruption. Needs the extra `webrtc`.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";

import { Server, microphone, openBrowser, until } from "./harness.mjs";

const BUNDLE = new URL("../node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.umd.js", import.meta.url);
const hasExtra = spawnSync(process.env.PYTHON, ["-c", "import aiortc"]).status === 0;
const missing = !hasExtra ? "no aiortc: make webrtc" : !existsSync(BUNDLE) && "no @openai/agents-realtime: make page-tools";

let server, browser;

before(async () => {
  if (missing) return;
  server = await Server.start("configs/scripted.yaml");
  browser = await openBrowser(microphone([[3, "goforward"], [8, "goforward"]], 60), {
    more: ["--autoplay-policy=no-user-gesture-required"],
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Runs in the page. */
async function converse() {
  const { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebRTC } = window.OpenAIAgentsRealtime;
  const secret = await fetch("/v1/realtime/client_secrets", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ session: { type: "realtime", model: "gpt-realtime" } }),
  }).then((answer) => answer.json());
  const heard = new Audio();
  heard.autoplay = true;
  const agent = new RealtimeAgent({ name: "Assistant", instructions: "Be brief." });
  // A recording is no echo, and a canceller that has just begun would take half of it away.
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const mediaStream = await navigator.mediaDevices.getUserMedia({ audio: plain });
  const baseUrl = `${location.origin}/v1/realtime/calls`;
  const transport = new OpenAIRealtimeWebRTC({ baseUrl, audioElement: heard, mediaStream });
  const session = new RealtimeSession(agent, { transport, model: "gpt-realtime" });
  window.seen = { events: [], errors: [], loud: [] };
  transport.on("*", (event) => window.seen.events.push({ type: event.type, at: performance.now() }));
  session.on("error", (error) => window.seen.errors.push(JSON.stringify(error, Object.getOwnPropertyNames(error))));
  session.on("history_updated", (history) => (window.seen.history = history));
  await session.connect({ apiKey: secret.value });
  window.session = session;
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(heard.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    if (Math.max(...samples.map(Math.abs)) > 0.05) window.seen.loud.push(performance.now());
  }, 10);
}

test("the Agents SDK talks over WebRTC, is interrupted, and hears the second answer", { skip: missing }, async () => {
  const context = await browser.newContext({ bypassCSP: true });
  const page = await context.newPage();
  await page.goto(server.url); // its own page, for that may use the microphone
  await page.addScriptTag({ path: BUNDLE.pathname });
  await page.evaluate(converse);
  const count = (kind) => page.evaluate((wanted) => window.seen.events.filter(({ type }) => type === wanted).length, kind);
  await until(async () => (await count("response.done")) >= 2, "two answers");
  const seen = await page.evaluate(() => window.seen);
  assert.deepEqual(seen.errors, []);
  assert.ok(seen.loud.length > 50, "the answers were heard");
  assert.equal(await count("output_audio_buffer.started"), 2);
  assert.equal(await count("output_audio_buffer.cleared"), 1);
  assert.equal(await count("output_audio_buffer.stopped"), 1);
  const said = seen.history.filter(({ role }) => role === "assistant").map(({ status }) => status);
  assert.deepEqual(said, ["incomplete", "completed"]);
  await page.evaluate(() => window.session.close());
  await until(async () => /vita_duplex_sessions 0/.test(await (await fetch(`${server.url}metrics`)).text()), "hung up");
  await context.close();
});

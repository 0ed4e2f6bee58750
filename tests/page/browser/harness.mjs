// A real browser, a real server, a recording as its microphone, and what the page's worklets did.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

import { chromium } from "playwright-core";

const ROOT = new URL("../../../", import.meta.url).pathname;
const { PYTHON, CHROMIUM, RECORDINGS } = process.env;
const RATE = 16000;

export const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

const PATIENCE_MS = 400000; // many times what anything takes on idle cores: what never comes is a fault, what comes late is not

/** Wait until `look` says something true; returns it. */
export async function until(look, what = look.toString()) {
  for (const end = Date.now() + PATIENCE_MS; ; await sleep(50)) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`it never came: ${what}`);
  }
}

export async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Serve a configuration (a path from the repository's root); `stop` with a signal, `start` again on the same port. */
export class Server {
  static async start(config, ...flags) {
    const server = new Server();
    server.port = await freePort();
    server.command = ["-m", "vita_duplex.cli.main", "serve", "--config", config, "--port", String(server.port), ...flags];
    await server.start();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  async start() {
    this.process = spawn(PYTHON, this.command, { cwd: ROOT, stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    this.process.stderr.on("data", (data) => (said = (said + data).slice(-5000)));
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    const ready = async () => {
      if (this.process.exitCode !== null) throw new Error(`the server ended: ${said}`);
      return fetch(`${this.url}ready`).then(({ ok }) => ok, () => false);
    };
    await until(ready, "the server is ready");
  }

  async stop(signal = "SIGTERM") {
    this.process.kill(signal);
    await this.ended;
  }
}

/** A WAV file of 16 bit mono samples. */
export function wav(samples, rate) {
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + samples.byteLength, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20); // PCM
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(rate, 24);
  head.writeUInt32LE(2 * rate, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write("data", 36);
  head.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([head, Buffer.from(samples.buffer)]);
}

/** A file with recordings of tests/data, or of anywhere, at these seconds: `[[2, "goforward"]]`. */
export function microphone(placed, seconds) {
  const sound = new Int16Array(seconds * RATE);
  for (const [at, name] of placed) {
    const recording = readFileSync(resolve(RECORDINGS, `${name}.wav`)).subarray(44);
    new Uint8Array(sound.buffer).set(recording, 2 * Math.round(at * RATE));
  }
  const file = join(mkdtempSync(join(tmpdir(), "microphone-")), "microphone.wav");
  writeFileSync(file, wav(sound, RATE));
  process.once("exit", () => rmSync(dirname(file), { recursive: true }));
  return file;
}

const FLAGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=user-gesture-required"];
const ALLOW = "--use-fake-ui-for-media-stream";
const DEVICES = "--use-fake-device-for-media-stream";

/**
 * `wav`: what the microphone hears. `fake`: true, a person that allows everything and devices; "device only", nobody who
 * allows them; false, no devices.
 */
export async function openBrowser(wav, { fake = true, more = [] } = {}) {
  const fakes = [fake === true && ALLOW, fake && DEVICES, wav && `--use-file-for-fake-audio-capture=${wav}%noloop`];
  const args = [...FLAGS, ...fakes.filter(Boolean), ...more];
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args });
}

/**
 * A page that notes what its worklets and socket do: `window.seen` has `reports` of the playback worklet, `frames` of the
 * microphone (time and loudness), `pushed` and `heard` samples of the loudspeaker's node. Times are performance.now().
 */
export async function openPage(browser, url, { watched = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 850 }, locale: "en-GB", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && page.errors.push(message.text()));
  if (watched) await page.addInitScript(watchWorklets);
  await page.goto(url);
  return page;
}

function watchWorklets() {
  window.seen = { reports: [], frames: [], pushed: [], heard: [] };
  const Node = window.AudioWorkletNode;
  window.AudioWorkletNode = class extends Node {
    constructor(context, name, options) {
      super(context, name, options);
      this.port.addEventListener("message", ({ data }) => {
        const t = performance.now();
        if (name === "playback") window.seen.reports.push({ t, ...data });
        else window.seen.frames.push({ t, loud: Math.max(...data.map(Math.abs)) });
      });
      if (name !== "playback") return;
      const post = this.port.postMessage.bind(this.port);
      this.port.postMessage = (command, ...more) => {
        if (command.pcm) window.seen.pushed.push(...command.pcm);
        post(command, ...more);
      };
      const tap = context.createScriptProcessor(16384, 1, 1); // 0.7 s: on busy cores a smaller one has holes
      tap.onaudioprocess = ({ inputBuffer }) => {
        for (const one of inputBuffer.getChannelData(0)) window.seen.heard.push(Math.round(one * 32768));
      };
      this.tap = tap;
      this.reconnect();
    }

    disconnect(...where) {
      super.disconnect(...where);
      this.reconnect();
    }

    /** The page routes its loudspeaker anew; the recording goes on. */
    reconnect() {
      super.connect(this.tap);
      this.tap.connect(this.context.destination);
    }
  };
}

export const mood = (page) => page.evaluate(() => document.body.dataset.mood);

export const mooded = (page, wanted) => until(async () => (await mood(page)) === wanted, `mood ${wanted}`);

export const text = (page, selector) => page.locator(selector).innerText();

/** Of the playback worklet, those of one kind. */
export const reports = (page, why) => page.evaluate((why) => window.seen.reports.filter((one) => one.why === why), why);
export const drained = (page, count) => until(async () => (await reports(page, "drained")).length >= count, `${count} heard`);
export const ask = async (page, question) => {
  await page.fill("#question", question);
  await page.keyboard.press("Enter");
};

/** Like deepEqual, which would take minutes to draw the difference of so many samples. */
export function same(samples, wanted) {
  const wrong = wanted.findIndex((sample, i) => samples[i] !== sample);
  assert.ok(wrong === -1 && samples.length === wanted.length, `${samples.length} samples for ${wanted.length}, other from ${wrong} on`);
}

/** Events that go over the page's sockets from now on: `{sent, received}`, parsed. */
export function overheard(page) {
  const events = { sent: [], received: [] };
  const note = (list) => ({ payload }) => typeof payload === "string" && list.push(JSON.parse(payload));
  page.on("websocket", (socket) => {
    socket.on("framesent", note(events.sent));
    socket.on("framereceived", note(events.received));
  });
  return events;
}

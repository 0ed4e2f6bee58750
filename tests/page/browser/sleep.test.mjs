// A headset that is pulled out, sound that the system stops, a computer that sleeps, a network that dies without a word.

import assert from "node:assert/strict";
import { test } from "node:test";

import { browse, serve } from "./fixtures.mjs";
import { ask, drained, microphone, mood, mooded, openPage, same, sleep, text, until } from "./harness.mjs";
import { Network } from "./proxy.mjs";

const once = await serve("tests/page/browser/once.yaml");
const quiet = await browse(microphone([], 120));

/** A page that keeps its microphones and audio contexts in `window.kept`. */
async function opened(browser, url, options) {
  const page = await openPage(browser, url, options);
  await page.addInitScript(() => {
    window.kept = { streams: [], contexts: [] };
    const { mediaDevices } = navigator;
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = async (wanted) => {
      const stream = await open(wanted);
      window.kept.streams.push(stream);
      return stream;
    };
    window.AudioContext = class extends AudioContext {
      constructor(options) {
        super(options);
        window.kept.contexts.push(this);
      }
    };
  });
  await page.reload();
  return page;
}

const microphones = (page) => page.evaluate(() => window.kept.streams.map((one) => one.getAudioTracks()[0].readyState));
const running = (page) => page.evaluate(() => window.kept.contexts.filter(({ state }) => state !== "closed").every(({ state }) => state === "running"));
const frames = (page) => page.evaluate(() => window.seen.frames.length);

const pullOut = (page) =>
  page.evaluate(() => {
    const [track] = window.kept.streams.at(-1).getAudioTracks();
    track.stop();
    track.dispatchEvent(new Event("ended"));
  });

test("a microphone that is pulled out in mid-talk: another one is taken, it is said, and the talk goes on", async () => {
  const page = await opened(quiet, once.url);
  await page.click("#talk");
  await mooded(page, "listening");
  await ask(page, "a question");
  await mooded(page, "speaking");
  await pullOut(page);
  await until(async () => /Another microphone listens now/.test(await text(page, "#problem")), "it is said");
  assert.match(await text(page, "#problem-advice"), /Fake/); // its name
  assert.deepEqual(await microphones(page), ["ended", "live"]);
  const before = await frames(page);
  await drained(page, 1);
  assert.ok((await frames(page)) > before + 50, "nobody listens");
  assert.deepEqual(await page.locator(".reply").evaluateAll((all) => all.map((one) => one.dataset.status)), ["completed"]);
  assert.equal(await page.locator(".mark").count(), 0, "not a new conversation");
  await page.context().close();
});

test("the only microphone is pulled out: said so, typing works, and it is taken again when it is back", async () => {
  const page = await opened(quiet, once.url);
  await page.click("#talk");
  await mooded(page, "listening");
  await page.evaluate(() => {
    const { mediaDevices } = navigator;
    const list = mediaDevices.enumerateDevices.bind(mediaDevices);
    mediaDevices.enumerateDevices = async () => (await list()).filter(({ kind }) => window.plugged || kind !== "audioinput");
  });
  await pullOut(page);
  await until(async () => /The microphone was disconnected/.test(await text(page, "#problem")));
  await mooded(page, "typing");
  await page.evaluate(() => {
    window.plugged = true;
    navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
  });
  await mooded(page, "listening");
  assert.deepEqual(await microphones(page), ["ended", "live"]);
  await page.context().close();
});

test("a headset that was chosen once is taken when it is plugged in", async () => {
  const page = await opened(quiet, once.url);
  await page.click("#talk");
  await mooded(page, "listening");
  await page.click("#open-settings");
  const listed = page.locator("[name=microphone] option");
  await until(async () => (await listed.count()) > 2, "the microphones");
  const headset = await listed.last().getAttribute("value");
  await page.evaluate((id) => {
    const settings = JSON.parse(localStorage.getItem("vita-duplex") ?? "{}");
    localStorage.setItem("vita-duplex", JSON.stringify({ ...settings, microphone: id }));
  }, headset);
  await page.addInitScript((id) => {
    const { mediaDevices } = navigator;
    const list = mediaDevices.enumerateDevices.bind(mediaDevices);
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    const there = (deviceId) => window.plugged || deviceId !== id;
    mediaDevices.enumerateDevices = async () => (await list()).filter(({ deviceId }) => there(deviceId));
    mediaDevices.getUserMedia = async (wanted) => {
      if (!window.plugged && wanted.audio.deviceId) throw new OverconstrainedError("deviceId");
      return open(wanted);
    };
  }, headset);
  await page.reload();
  await page.click("#talk");
  await mooded(page, "listening");
  const used = () => page.evaluate(() => window.kept.streams.at(-1).getAudioTracks()[0].getSettings().deviceId);
  assert.notEqual(await used(), headset);
  await page.evaluate(() => {
    window.plugged = true;
    navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
  });
  await until(async () => (await used()) === headset, "the headset is used");
  await mooded(page, "listening");
  await page.context().close();
});

test("sound that the system stopped goes on by itself, or where the browser wants it at the next press", async () => {
  const page = await opened(quiet, once.url);
  await page.click("#talk");
  await mooded(page, "listening");
  await page.evaluate(() => Promise.all(window.kept.contexts.filter(({ state }) => state === "running").map((one) => one.suspend())));
  await until(() => running(page), "by itself");
  await page.evaluate(() => {
    for (const context of window.kept.contexts) {
      const resume = context.resume.bind(context);
      context.resume = async () => window.pressed && resume();
      if (context.state === "running") context.suspend();
    }
  });
  await page.waitForSelector("#unblock:not([hidden])");
  assert.equal(await running(page), false);
  await page.evaluate(() => (window.pressed = true));
  await page.click("#unblock");
  await until(() => running(page), "at a press");
  await until(async () => !(await page.locator("#unblock").isVisible()));
  await ask(page, "a question");
  await drained(page, 1);
  await page.context().close();
});

/** Stop everything the browser's pages do for so long, as a computer that sleeps. Their sockets stay open. */
async function nap(browser, ms) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const pages = processInfo.filter(({ type }) => type === "renderer");
  for (const { id } of pages) process.kill(id, "SIGSTOP");
  await sleep(ms);
  for (const { id } of pages) process.kill(id, "SIGCONT");
}

test("after a short sleep the conversation goes on", async () => {
  const page = await openPage(quiet, once.url);
  await ask(page, "once");
  await drained(page, 1);
  const whole = await page.evaluate(() => window.seen.pushed.slice());
  await nap(quiet, 20000);
  await until(async () => (await page.locator(".mark").count()) === 1, "it came back");
  assert.match(await text(page, ".mark"), /back after \d+\.\d s/);
  await ask(page, "and once more");
  await drained(page, 2);
  same(await page.evaluate((from) => window.seen.pushed.slice(from), whole.length), whole);
  await page.context().close();
});

test("after a sleep that was too long for the server: said so, and a new conversation without a click", async () => {
  const page = await openPage(quiet, once.url);
  await ask(page, "once");
  await drained(page, 1);
  await nap(quiet, 50000); // 15 s until it notices, and 30 s that it waits
  await until(async () => /could not be continued/.test(await text(page, "#problem")), "it is said");
  await mooded(page, "typing");
  assert.equal(await text(page, ".mark"), "new conversation");
  await ask(page, "Are you there?");
  await drained(page, 2);
  await page.context().close();
});

test("a network that dies without a word while nobody speaks is noticed, and the session taken up again", async (t) => {
  const network = await Network.to(once.port);
  const page = await openPage(quiet, network.url);
  await ask(page, "a question");
  await drained(page, 1);
  await mooded(page, "typing");
  network.swallow(); // what is there; a new connection gets through
  const cut = Date.now();
  await until(async () => (await page.locator(".mark").count()) === 1, "it came back");
  t.diagnostic(`back after ${((Date.now() - cut) / 1000).toFixed(1)} s`);
  assert.equal(await mood(page), "typing");
  await page.context().close();
  network.close();
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { browse, serve } from "./fixtures.mjs";
import { ask, drained, microphone, mood, mooded, openPage, reports, same, sleep, text, until } from "./harness.mjs";
import { Network } from "./proxy.mjs";

const LOUD = 1500; // of 32768; the recordings' breath is below it, their first syllable above

const scripted = await serve("configs/scripted.yaml");
const once = await serve("tests/page/browser/once.yaml");
const quiet = await browse(microphone([], 60));

test("a second question into the answer: silent before its verdict, the new answer follows, the old one is shown cut", async (t) => {
  const browser = await browse(microphone([[2, "goforward"], [7, "something"]], 40));
  const page = await openPage(browser, scripted.url);
  await page.click("#talk");
  await drained(page, 1);
  await mooded(page, "listening");
  const [held] = await reports(page, "held");
  const [{ t: started }] = await reports(page, "started");
  const frames = await page.evaluate(() => window.seen.frames);
  const onset = frames.find(({ t, loud }) => t > started && loud > LOUD).t - 20; // the frame's first sample
  t.diagnostic(`${Math.round(held.t - onset)} ms from the first loud frame to silence`);
  const [flushed] = (await reports(page, "flushed")).filter(({ played }) => played > 0);
  assert.ok(held.t < flushed.t, "it went on until the verdict");
  assert.equal(await page.locator('.reply[data-status="cancelled"] s').count(), 1);
  assert.match(await text(page, '.reply[data-status="cancelled"] .facts'), /cut after \d+\.\d s/);
  assert.match(await text(page, ".reply:last-child .words"), /second answer/);
  assert.equal(await text(page, "#swaps"), "1");
  assert.deepEqual(await page.locator(".utterance .token").allInnerTexts(), ["<1>", "<1>"]);
  assert.ok((await page.locator("#timeline .t-yes").count()) === 2);
  assert.deepEqual(page.errors, []);
  await browser.close();
});

test("what is not meant for the model holds the answer, and every sample of it is heard once", async () => {
  const browser = await browse(microphone([[2, "goforward"], [6, "jfk-americans"]], 40));
  const page = await openPage(browser, once.url);
  await page.click("#talk");
  await drained(page, 1);
  assert.equal((await reports(page, "held")).length, 1);
  assert.equal((await reports(page, "resumed")).length, 1);
  assert.equal(await page.locator(".overheard .token").innerText(), "<2>");
  const { pushed } = await page.evaluate(() => window.seen);
  const [{ played }] = await reports(page, "drained"); // counted by the worklet: a recording has holes on busy cores
  assert.equal(played, pushed.length);
  const before = pushed.length;
  await ask(page, "and again?"); // uninterrupted
  await drained(page, 2);
  const whole = await page.evaluate((before) => window.seen.pushed.slice(before), before);
  same(pushed, whole);
  await browser.close();
});

for (const [what, cut, mend] of [["breaks", "break", "mend"], ["swallows everything", "swallow", "deliver"]]) {
  test(`a network that ${what} for 5 s in mid-answer: it goes on by itself, nothing lost or repeated`, async () => {
    const network = await Network.to(once.port);
    const page = await openPage(quiet, network.url);
    await page.click("#talk");
    await mooded(page, "listening");
    await ask(page, "once");
    await drained(page, 1);
    const whole = await page.evaluate(() => window.seen.pushed.slice());
    await ask(page, "and once more");
    await until(async () => (await reports(page, "started")).length === 2);
    await sleep(1000);
    network[cut]();
    await sleep(5000);
    network[mend]();
    await drained(page, 2);
    const pushed = await page.evaluate((from) => window.seen.pushed.slice(from), whole.length);
    same(pushed, whole);
    assert.equal(await page.locator('.reply[data-status="completed"]').count(), 2);
    await mooded(page, "listening");
    await page.context().close();
    network.close();
  });
}

test("a server that is restarted: said so, and a new conversation without a click", async () => {
  const server = await serve("tests/page/browser/once.yaml");
  const page = await openPage(quiet, server.url);
  await page.click("#talk");
  await mooded(page, "listening");
  await server.stop("SIGKILL");
  await mooded(page, "reconnecting");
  await server.start();
  await mooded(page, "listening");
  assert.match(await text(page, "#problem"), /restarted/);
  await ask(page, "Are you there?");
  await drained(page, 1);
  const told = (await page.locator("#problem").isVisible()) && (await text(page, "#problem"));
  assert.ok(!/restarted/.test(told), "it still says so"); // by now it may say that the microphone is silent, as it is
  await page.context().close();
});

test("who has to wait is told the place, and comes in by itself", async () => {
  const server = await serve("tests/page/browser/once.yaml", "--set", "server.max_sessions=1");
  const first = await openPage(quiet, server.url);
  await first.click("#talk");
  await mooded(first, "listening");
  const second = await openPage(quiet, server.url);
  await second.click("#talk");
  await mooded(second, "queued");
  assert.match(await text(second, "#hint"), /You are number 1/);
  await first.click("#talk");
  await mooded(second, "listening");
  for (const page of [first, second]) await page.context().close();
});

test("a full server: said so, and tried again", async () => {
  const server = await serve("tests/page/browser/once.yaml", "--set", "server.max_sessions=1", "--set", "server.max_waiting=0");
  const first = await openPage(quiet, server.url);
  await first.click("#talk");
  await mooded(first, "listening");
  const second = await openPage(quiet, server.url);
  await second.click("#talk");
  await until(async () => /no place/.test(await text(second, "#problem")));
  for (const page of [first, second]) await page.context().close();
});

test("a microphone that is refused, and none at all: each its message, and typing works", async () => {
  for (const [fake, message] of [["device only", /blocked/], [false, /No microphone/]]) {
    const browser = await browse(null, { fake });
    const page = await openPage(browser, once.url, fake ? {} : { permissions: ["microphone"] });
    await page.click("#talk");
    await until(async () => message.test(await text(page, "#problem")), String(message));
    assert.equal(await mood(page), "idle");
    await ask(page, "typed");
    await drained(page, 1);
    await browser.close();
  }
});

test("an insecure origin: what to do is said", async () => {
  const browser = await browse(null, { more: ["--host-resolver-rules=MAP talk.test 127.0.0.1"] });
  const page = await openPage(browser, `http://talk.test:${once.port}/`);
  assert.match(await text(page, "#problem"), /https:\/\/ or localhost/);
  assert.match(await text(page, "#problem"), /ssh -L/);
  await browser.close();
});

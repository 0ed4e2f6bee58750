// What is set in the dialog, kept, and what it does.

import assert from "node:assert/strict";
import { test } from "node:test";

import { browse, serve } from "./fixtures.mjs";
import { ask, drained, microphone, mooded, openPage, overheard, reports, text, until } from "./harness.mjs";

const scripted = await serve("configs/scripted.yaml");
const quiet = await browse(microphone([], 60));

const updates = ({ sent }) => sent.filter(({ type }) => type === "session.update").map(({ session }) => session);
const inEffect = ({ received }) => received.findLast(({ type }) => type === "session.updated")?.session;
const set = async (page, choose) => {
  await page.click("#open-settings");
  await choose();
  await page.keyboard.press("Escape");
};

test("settings are kept, change the language at once, and reach the server", async () => {
  const page = await openPage(quiet, scripted.url);
  const events = overheard(page);
  await set(page, async () => {
    await page.selectOption("[name=language]", "zh");
    assert.equal(await text(page, "#talk-label"), "开始");
    assert.equal(await page.evaluate(() => document.documentElement.lang), "zh-CN");
    await page.selectOption("[name=theme]", "dark");
    await page.fill("[name=instructions]", "Be brief.");
    await page.selectOption("[name=barge_in]", "verdict");
    await page.fill("[name=verdict_threshold]", "0.65");
    await page.fill("[name=threshold]", "0.4");
    await page.uncheck("[name=echo]");
  });
  await page.reload();
  assert.equal(await text(page, "#mood"), "就绪");
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).colorScheme), "dark");
  await page.click("#talk");
  await mooded(page, "listening");
  await until(() => inEffect(events)?.vita.echo_guard, "the server sees to the echo");
  const { instructions, vita, audio } = inEffect(events);
  assert.deepEqual([instructions, audio.input.turn_detection.threshold], ["Be brief.", 0.4]);
  assert.deepEqual(vita, { barge_in: "verdict", verdict_threshold: 0.65, echo_guard: true });
  await set(page, () => page.click("#reset-settings")); // goes back to the server's own, in the same session
  await until(() => inEffect(events).vita.barge_in === "hold" && !inEffect(events).vita.echo_guard);
  assert.equal(inEffect(events).vita.verdict_threshold, 0.5);
  await page.click("#open-settings");
  assert.match(await text(page, "[name=barge_in] option:checked"), /server default: Pause first, then judge/);
  assert.match(await page.getAttribute("[name=verdict_threshold]", "placeholder"), /0\.5/);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("with barging in switched off the answer goes on as if nothing were said into it", async () => {
  const browser = await browse(microphone([[2, "goforward"], [7, "something"]], 40));
  const page = await openPage(browser, scripted.url);
  await set(page, () => page.selectOption("[name=barge_in]", "off"));
  await page.click("#talk");
  await mooded(page, "speaking");
  assert.match(await text(page, "#hint"), /cannot be interrupted/);
  await drained(page, 1);
  const [{ t: began }, { t: ended }] = [(await reports(page, "started"))[0], (await reports(page, "drained"))[0]];
  const during = await page.evaluate(([from, to]) => window.seen.frames.some(({ t, loud }) => t > from && t < to && loud > 3000), [began, ended]);
  assert.ok(during, "somebody spoke into it");
  assert.deepEqual([...(await reports(page, "held")), ...(await reports(page, "flushed")).filter(({ played }) => played > 0)], []);
  assert.deepEqual(await page.locator(".reply").evaluateAll((all) => all.map((one) => one.dataset.status)), ["completed"]);
  assert.equal(await page.locator(".utterance, .overheard").count(), 1);
  await browser.close();
});

test("a verdict below the threshold that was set is not answered", async () => {
  const browser = await browse(microphone([[2, "goforward"]], 40));
  const page = await openPage(browser, scripted.url);
  await set(page, () => page.fill("[name=verdict_threshold]", "1"));
  await page.reload();
  await page.click("#talk");
  await until(async () => (await page.locator(".overheard").count()) === 1, "a verdict");
  assert.match(await text(page, ".overheard .facts"), /p1 0\.95/);
  await mooded(page, "listening");
  assert.equal(await page.locator(".reply").count(), 0);
  await browser.close();
});

test("a voice can be chosen where the server has several, and is not asked for where it is not known", async () => {
  const page = await openPage(quiet, scripted.url);
  const events = overheard(page);
  const offer = async (voices) => {
    await page.unrouteAll();
    await page.route("**/v1/audio/voices", (route) => route.fulfill({ json: { voices, default: voices[0] } }));
    await page.reload();
    await page.click("#open-settings");
  };
  await offer(["hum"]);
  assert.equal(await page.locator("[name=voice]").isVisible(), false);
  await offer(["hum", "song"]);
  await page.waitForSelector("[name=voice]");
  await page.selectOption("[name=voice]", "song");
  await page.keyboard.press("Escape");
  await ask(page, "a question");
  await until(() => updates(events).length > 0);
  assert.equal(updates(events)[0].audio.output.voice, "song");
  await offer(["hum", "other"]);
  assert.equal(await page.inputValue("[name=voice]"), "song");
  await page.keyboard.press("Escape");
  const before = updates(events).length;
  await ask(page, "a question");
  await until(() => updates(events).length > before);
  assert.notEqual(updates(events)[before].audio.output.voice, "song");
  await page.context().close();
});

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { Server, microphone, mooded, openBrowser, openPage, until } from "./harness.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { width: 375, height: 740 };

let server, browser;

before(async () => {
  server = await Server.start("configs/scripted.yaml");
  browser = await openBrowser(microphone([[1, "goforward"], [5, "something"]], 60));
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** What axe-core finds that is serious or critical, in a line each. */
async function violations(page) {
  await page.evaluate(AXE); // by the debugger, which the policy does not bind
  const found = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
const overflowOf = (page, selector) => page.locator(selector).evaluate((node) => node.scrollWidth - node.clientWidth);

for (const colorScheme of ["light", "dark"]) {
  test(`the talk page in ${colorScheme}: idle, in the middle of a talk and with its settings open`, async () => {
    const page = await openPage(browser, server.url, { colorScheme });
    assert.deepEqual(await violations(page), []);
    await page.click("#talk");
    await until(async () => (await page.locator('.reply[data-status="cancelled"]').count()) > 0, "a cut reply");
    await mooded(page, "listening");
    assert.deepEqual(await violations(page), []);
    await page.setViewportSize(PHONE);
    assert.ok((await overflow(page)) <= 0, "wider than a phone");
    await page.click("#open-settings");
    assert.deepEqual(await violations(page), []);
    assert.ok((await overflow(page)) <= 0, "the settings are wider than a phone");
    assert.ok((await overflowOf(page, "#settings")) <= 0, "a setting is wider than its dialog");
    assert.deepEqual(page.errors, []);
    await page.context().close();
  });

  test(`the ability page in ${colorScheme}`, async () => {
    const page = await openPage(browser, `${server.url}ability`, { colorScheme, viewport: PHONE, locale: "zh-CN" });
    await until(async () => (await page.locator("#model option").count()) > 0);
    await page.setInputFiles("#files", { name: "a.wav", mimeType: "audio/wav", buffer: Buffer.alloc(100) });
    await page.waitForSelector(".thumb");
    assert.deepEqual(await violations(page), []);
    assert.ok((await overflow(page)) <= 0, "wider than a phone");
    await page.context().close();
  });
}

test("the talk page by keyboard alone: a question, Escape stops its answer, the timeline moves", async () => {
  const page = await openPage(browser, server.url);
  for (let steps = 0; (await page.evaluate(() => document.activeElement.id)) !== "question"; steps++) {
    assert.ok(steps < 20, "the question cannot be reached");
    await page.keyboard.press("Tab");
  }
  await page.keyboard.type("a question");
  await page.keyboard.press("Enter");
  await mooded(page, "speaking");
  await page.keyboard.press("Escape");
  await until(async () => (await page.locator('.reply[data-status="cancelled"]').count()) === 1);
  await page.focus("#timeline");
  for (let i = 0; i < 4; i++) await page.keyboard.press("+");
  await until(async () => {
    await page.keyboard.press("ArrowLeft"); // to no effect until something lies before what is shown
    return (await page.getAttribute("#timeline-live", "aria-pressed")) === "false";
  });
  await page.keyboard.press("End");
  assert.equal(await page.getAttribute("#timeline-live", "aria-pressed"), "true");
  await page.context().close();
});

test("the timeline is saved as a picture with its colours, and as a log", async () => {
  const page = await openPage(browser, server.url);
  await page.fill("#question", "a question");
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator('.reply[data-status="completed"]').count()) === 1, "an answer");
  const saved = async (button) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
    return readFileSync(await download.path(), "utf8");
  };
  const svg = await saved("#timeline-svg");
  assert.match(svg, /^<svg [^]*--first:rgb\([^]*\.t-level[^]*<\/svg>$/);
  assert.ok(!svg.includes("light-dark"));
  const log = JSON.parse(await saved("#timeline-json"));
  assert.equal(log.replies[0].status, "completed");
  assert.ok(log.replies[0].latency > 0);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

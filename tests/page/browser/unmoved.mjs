// Sounds that are not meant for the model, each said into an answer of the default models; the first answer is left alone:
// node unmoved.mjs configuration folder recording…  ->  seen.json: [{played, sent, held, resumed, loudest, status, words}]

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { Server, ask, drained, microphone, openBrowser, openPage, reports, until } from "./harness.mjs";

const [config, folder, ...recordings] = process.argv.slice(2);
const QUESTION = "Can you tell me about the sun?";
const server = await Server.start(config);

async function answered(recording) {
  const browser = await openBrowser(microphone(recording ? [[0.5, recording]] : [], 60));
  const page = await openPage(browser, server.url);
  await ask(page, QUESTION);
  await until(async () => (await reports(page, "started")).length === 1, "an answer");
  if (recording) await page.click("#talk"); // from now on the microphone hears
  await drained(page, 1);
  // Counted by the worklet that plays: a recording of it would have holes on busy cores.
  const [[{ played }], held, resumed] = await Promise.all(["drained", "held", "resumed"].map((why) => reports(page, why)));
  const sent = await page.evaluate(() => window.seen.pushed.length);
  const loudest = await page.evaluate(() => Math.max(0, ...window.seen.frames.map(({ loud }) => loud)));
  const status = await page.locator(".reply").evaluateAll((all) => all.map((one) => one.dataset.status));
  const words = await page.locator(".reply .words").allInnerTexts();
  await browser.close();
  return { played, sent, held: held.length, resumed: resumed.length, loudest, status, words };
}

try {
  const seen = [];
  for (const recording of [null, ...recordings]) seen.push(await answered(recording));
  writeFileSync(join(folder, "seen.json"), JSON.stringify(seen));
} finally {
  await server.stop();
}

// A human question to the page, and what its loudspeaker said, for others to transcribe:
// node spoken.mjs configuration folder  ->  heard.wav (24 kHz), shown.json

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { Server, microphone, openBrowser, openPage, sleep, until, wav } from "./harness.mjs";

const [config, folder] = process.argv.slice(2);
const server = await Server.start(config);
const browser = await openBrowser(microphone([[2, "goforward"]], 60));
try {
  const page = await openPage(browser, server.url);
  await page.click("#talk");
  const drained = () => page.evaluate(() => window.seen.reports.some(({ why }) => why === "drained"));
  await until(drained, "an answer was heard");
  await sleep(1500); // the tap's last block
  const { heard, reports } = await page.evaluate(() => window.seen);
  writeFileSync(join(folder, "heard.wav"), wav(Int16Array.from(heard), 24000));
  const asked = await page.locator(".utterance .words").innerText();
  const shown = await page.locator('.reply[data-status="completed"] .words').innerText();
  writeFileSync(join(folder, "shown.json"), JSON.stringify({ asked, shown, underruns: reports.at(-1).underruns }));
} finally {
  await browser.close();
  await server.stop();
}

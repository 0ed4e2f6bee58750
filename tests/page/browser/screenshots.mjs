// Pictures of both pages, in both languages, large and small, light and dark: into out/screenshots.
// node screenshots.mjs [configuration [a part of their names]]

import { mkdirSync, readFileSync } from "node:fs";

import { Server, microphone, mooded, openBrowser, openPage, sleep, text, until } from "./harness.mjs";

const [config = "configs/scripted.yaml", part = ""] = process.argv.slice(2);
const OUT = new URL("../../../out/screenshots/", import.meta.url).pathname;
const PICTURE = new URL("../../../docs/turn.png", import.meta.url);
const SIZES = { desktop: { width: 1200, height: 900 }, phone: { width: 375, height: 740 } };

mkdirSync(OUT, { recursive: true });
const server = await Server.start(config);
const browser = await openBrowser(microphone([[1, "jfk-ask"], [7, "something"]], 60));

async function shootTalk(name, options) {
  const page = await openPage(browser, server.url, options);
  await sleep(500);
  await page.screenshot({ path: `${OUT}talk-${name}-idle.png` });
  await page.click("#talk");
  await until(async () => (await page.locator('.reply[data-status="cancelled"]').count()) > 0, "a cut reply");
  await mooded(page, "speaking");
  await sleep(1500);
  await page.screenshot({ path: `${OUT}talk-${name}.png` });
  await page.click("#open-settings");
  await sleep(300);
  await page.screenshot({ path: `${OUT}talk-${name}-settings.png` });
  await page.context().close();
}

async function shootAbility(name, options) {
  const page = await openPage(browser, `${server.url}ability`, options);
  await until(async () => (await text(page, "#takes")) !== "");
  const takesPictures = (await page.locator("#takes").innerText()).split("·").length > 2;
  await ask(page, options.locale === "zh-CN" ? "你好，你能做什么？" : "Hello, what can you do?");
  if (takesPictures) {
    await page.setInputFiles("#files", { name: "picture.png", mimeType: "image/png", buffer: readFileSync(PICTURE) });
    await page.waitForSelector(".thumb");
    await ask(page, options.locale === "zh-CN" ? "这张图片里有什么？" : "What is in this picture?");
  }
  await page.screenshot({ path: `${OUT}ability-${name}.png` });
  await page.context().close();
}

async function ask(page, question) {
  const before = await page.locator('.reply[aria-busy="false"]').count();
  await page.fill("#question", question);
  await page.click("#send");
  await until(async () => (await page.locator('.reply[aria-busy="false"]').count()) > before, "an answer");
}

for (const [language, locale] of [["en", "en-GB"], ["zh", "zh-CN"]]) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      const name = `${size}-${colorScheme}-${language}`;
      if (!name.includes(part)) continue;
      await shootTalk(name, { locale, viewport, colorScheme });
      await shootAbility(name, { locale, viewport, colorScheme });
      console.log(name);
    }
  }
}
await browser.close();
await server.stop();

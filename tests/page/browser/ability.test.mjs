import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Server, microphone, openBrowser, openPage, text, until } from "./harness.mjs";

const { RECORDINGS, ABILITY_SERVER = '["configs/scripted.yaml"]' } = process.env;
const FILM = new URL("../../data/film-h264.mp4", import.meta.url);
const PICTURE = new URL("../../../docs/turn.png", import.meta.url);

const file = (name, mimeType, path) => ({ name, mimeType, buffer: readFileSync(path) });
const picture = file("picture.png", "image/png", PICTURE);
const sound = file("sound.wav", "audio/wav", join(RECORDINGS, "goforward.wav"));
const film = file("film.mp4", "video/mp4", FILM);

let server, browser;

before(async () => {
  server = await Server.start(...JSON.parse(ABILITY_SERVER));
  browser = await openBrowser(microphone([[0.5, "goforward"]], 20));
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function opened(options) {
  const page = await openPage(browser, `${server.url}ability`, options);
  await until(async () => (await text(page, "#takes")) !== "", "the models");
  return page;
}

async function ask(page, question, files = []) {
  const before = await page.locator(".reply").count();
  await page.setInputFiles("#files", files);
  await until(async () => (await page.locator(".thumb").count()) === files.length);
  await page.fill("#question", question);
  await page.click("#send");
  await until(async () => (await page.locator('.reply[aria-busy="false"]').count()) > before, "an answer");
  return page.locator(".reply").last();
}

/** Tokens of the prompt as the server counts them when it is asked the same without a page. */
async function promptTokens(body) {
  const plain = { ...body, stream: false, stream_options: undefined };
  const answer = await fetch(`${server.url}v1/chat/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(plain),
  });
  return (await answer.json()).usage.prompt_tokens;
}

test("a picture, a sound and a film are asked about, in one chat, and each answer tells its tokens and times", async () => {
  const page = await opened();
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(request.postDataJSON()));
  assert.match(await text(page, "#takes"), /text · audio · images · video/);
  for (const [question, files, shown] of [
    ["Hello?", [], 0],
    ["What is in it?", [picture], 1],
    ["", [sound], 1],
    ["What happens?", [film, picture], 2],
  ]) {
    const reply = await ask(page, question, files);
    const facts = await reply.locator(".facts").innerText();
    const [, prompt, completion] = /(\d+) tokens in, (\d+) out/.exec(facts);
    assert.equal(Number(prompt), await promptTokens(sent.at(-1)), question);
    assert.ok(Number(completion) > 0);
    assert.match(facts, /first token \d+\.\d\d s/);
    assert.equal(await page.locator(".utterance").last().locator("img, audio, video").count(), shown);
  }
  assert.equal(await page.locator("#problem").isVisible(), false);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the history goes with each question; starting over forgets it", async () => {
  const page = await opened();
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(request.postDataJSON()));
  await ask(page, "one", [picture]);
  await ask(page, "two");
  assert.deepEqual(sent[1].messages.map(({ role }) => role), ["user", "assistant", "user"]);
  assert.equal(sent[1].messages[0].content[0].type, "image_url");
  await page.click("#reset");
  assert.equal(await page.locator(".entry").count(), 0);
  await ask(page, "three");
  assert.equal(sent[2].messages.length, 1);
  await page.context().close();
});

test("a broken file is refused clearly, and the question is given back", async () => {
  const page = await opened();
  await page.setInputFiles("#files", { name: "broken.png", mimeType: "image/png", buffer: Buffer.from("no picture at all") });
  await page.fill("#question", "What is it?");
  await page.click("#send");
  await until(() => page.locator("#problem").isVisible());
  assert.match(await text(page, "#problem"), /The server refused this\.\s+\S+/);
  assert.equal(await page.inputValue("#question"), "What is it?");
  assert.equal(await page.locator(".entry").count(), 0);
  assert.equal(await page.locator(".thumb").count(), 1);
  await page.setInputFiles("#files", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("words") });
  await until(async () => /cannot be sent/.test(await text(page, "#problem")));
  await page.context().close();
});

test("a model that cannot see says so before anything is sent", async () => {
  const page = await openPage(browser, `${server.url}health`);
  await page.route("**/v1/models", (route) =>
    route.fulfill({ json: { data: [{ id: "blind", input_modalities: ["text", "audio"] }] } }),
  );
  await page.goto(`${server.url}ability`);
  await page.setInputFiles("#files", picture);
  await until(() => page.locator("#send").isDisabled());
  assert.match(await text(page, "#problem"), /blind does not take images/);
  await page.click(".thumb button");
  assert.equal(await page.locator("#send").isDisabled(), false);
  assert.equal(await page.locator("#problem").isVisible(), false);
  await page.context().close();
});

test("what is recorded is sent as a sound", async () => {
  const page = await opened();
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(request.postDataJSON()));
  await page.click("#record");
  await until(async () => (await page.evaluate(() => window.seen.frames.length)) > 50);
  await page.click("#record");
  await page.waitForSelector(".thumb audio");
  await page.click("#send");
  await until(() => sent.length === 1);
  const { data, format } = sent[0].messages[0].content[0].input_audio;
  assert.equal(format, "wav");
  assert.ok(Buffer.from(data, "base64").length > 44 + 50 * 640);
  await page.context().close();
});

test("the command line that is copied is answered by the server", async () => {
  const page = await opened({ permissions: ["clipboard-read", "clipboard-write"], locale: "zh-CN" });
  await ask(page, "it's a question");
  await page.locator(".utterance button").click();
  await until(async () => (await text(page, ".utterance button")) === "已复制");
  const command = await page.evaluate(() => navigator.clipboard.readText());
  const { execFileSync } = await import("node:child_process");
  const said = execFileSync("bash", ["-c", command], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  assert.match(said, /data: \[DONE\]/);
  await page.context().close();
});

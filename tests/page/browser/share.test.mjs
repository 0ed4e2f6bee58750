// What the page shows the model: camera, screen, pictures.

import assert from "node:assert/strict";
import { test } from "node:test";

import { browse, serve } from "./fixtures.mjs";
import { ask, drained, microphone, mooded, openPage, overheard, text, until } from "./harness.mjs";

const server = await serve("tests/page/browser/once.yaml");
const quiet = await browse(microphone([], 60));

const DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** Pictures by their items: those the server has taken, the ids of those it has let go. */
function seenBy(page) {
  const { received, sent } = overheard(page);
  const of = (type) => received.filter((event) => event.type === type);
  return {
    get added() {
      return of("conversation.item.added").map(({ item }) => item);
    },
    get deleted() {
      return of("conversation.item.deleted").map(({ item_id }) => item_id);
    },
    get urls() {
      const created = sent.filter(({ type }) => type === "conversation.item.create");
      return created.map(({ item }) => item.content[0].image_url);
    },
  };
}

test("camera pictures reach the server at their rate, and the newest replaces the one before", async () => {
  const page = await openPage(quiet, server.url);
  const got = seenBy(page);
  await page.click("#talk");
  await mooded(page, "listening");
  await page.click("#camera");
  await until(() => got.added.length >= 4, "four pictures");
  assert.ok(got.added.every(({ content }) => content[0].type === "input_image"));
  await until(() => got.deleted.length >= 3);
  assert.deepEqual(got.deleted.slice(0, 3), got.added.slice(0, 3).map(({ id }) => id));
  assert.match(await text(page, "#seen-facts"), /448 × \d+, \d+ so far/);
  await page.click("#camera");
  await until(() => got.deleted.length === got.added.length);
  assert.equal(await page.locator("#seen").isVisible(), false);
  assert.equal(await page.locator(".entry").count(), 0);
  await page.context().close();
});

test("a shared tab reaches the server as the preview shows it; when it is closed the page knows", async () => {
  const chosen = "--auto-select-tab-capture-source-by-title=Shared";
  const browser = await browse(microphone([], 60), { fake: "device only", more: [chosen] });
  const page = await openPage(browser, server.url, { permissions: ["microphone"] });
  const shared = await page.context().newPage();
  await shared.setContent('<title>Shared</title><body style="margin: 0; background: rgb(200 30 60)">');
  await page.bringToFront();
  const got = seenBy(page);
  await page.click("#talk");
  await mooded(page, "listening");
  await page.click("#screen");
  await until(() => got.added.length >= 2, "two pictures");
  assert.equal(await page.getAttribute("#screen", "aria-pressed"), "true");
  const shown = await page.locator("#seen-picture").evaluate((picture) => {
    const { src, naturalWidth: width, naturalHeight: height } = picture;
    const canvas = new OffscreenCanvas(width, height).getContext("2d");
    canvas.drawImage(picture, 0, 0);
    return { src, width, height, colour: [...canvas.getImageData(width / 2, height / 2, 1, 1).data.slice(0, 3)] };
  });
  assert.ok(got.urls.includes(shown.src), "the preview is something else");
  assert.equal(Math.max(shown.width, shown.height), 448);
  assert.match(await text(page, "#seen-facts"), new RegExp(`${shown.width} × ${shown.height}, \\d+ so far`));
  const off = shown.colour.map((value, i) => Math.abs(value - [200, 30, 60][i]));
  assert.ok(Math.max(...off) < 40, `the colour is ${shown.colour}`);
  await shared.close(); // to the page as if the person had pressed the browser's own button
  await until(() => got.deleted.length === got.added.length, "the last picture is taken back");
  assert.equal(await page.locator("#seen").isVisible(), false);
  assert.equal(await page.getAttribute("#screen", "aria-pressed"), "false");
  assert.equal(await page.locator("#problem").isVisible(), false);
  await browser.close();
});

test("a picture goes with a typed question and is shown in the talk", async () => {
  const page = await openPage(quiet, server.url);
  await page.setInputFiles("#picture", { name: "dot.png", mimeType: "image/png", buffer: Buffer.from(DOT, "base64") });
  await page.waitForSelector(".thumb");
  await ask(page, "What is this?");
  await drained(page, 1);
  assert.equal(await page.locator(".utterance img").count(), 1);
  assert.equal(await page.locator(".thumb").count(), 0);
  await page.setInputFiles("#picture", { name: "no.png", mimeType: "image/png", buffer: Buffer.from("no picture") });
  await until(async () => /as an image/.test(await text(page, "#problem")));
  await page.context().close();
});

for (const way of ["paste", "drop"]) {
  test(`a picture by ${way} goes with the next question, and other files are left alone`, async () => {
    const page = await openPage(quiet, server.url);
    await page.evaluate(
      ([way, dot]) => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(dot), (one) => one.charCodeAt(0));
        data.items.add(new File([bytes], "dot.png", { type: "image/png" }));
        data.items.add(new File(["words"], "words.txt", { type: "text/plain" }));
        const more = { bubbles: true, cancelable: true };
        const event =
          way === "paste"
            ? new ClipboardEvent("paste", { clipboardData: data, ...more })
            : new DragEvent("drop", { dataTransfer: data, ...more });
        document.querySelector("#question").dispatchEvent(event);
      },
      [way, DOT],
    );
    await page.waitForSelector(".thumb");
    assert.equal(await page.locator(".thumb").count(), 1);
    await ask(page, "What is this?");
    await drained(page, 1);
    assert.equal(await page.locator(".utterance img").count(), 1);
    await page.context().close();
  });
}

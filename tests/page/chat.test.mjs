import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./load.mjs";

const { Answer, chunks, curl, kindOf, question, request } = await load("chat.js");
const { wavUrl } = await load("wav.js");

const stream = (...pieces) => new Blob(pieces).stream();
const collect = async (generator) => {
  const found = [];
  for await (const one of generator) found.push(one);
  return found;
};

test("files go before the words, each in its part", () => {
  const files = [
    { kind: "image", url: "data:image/png;base64,AAA" },
    { kind: "audio", url: "data:audio/x-wav;base64,BBB" },
    { kind: "video", url: "data:video/mp4;base64,CCC" },
  ];
  assert.deepEqual(question("What?", files), {
    role: "user",
    content: [
      { type: "image_url", image_url: { url: "data:image/png;base64,AAA" } },
      { type: "input_audio", input_audio: { data: "BBB", format: "wav" } },
      { type: "video_url", video_url: { url: "data:video/mp4;base64,CCC" } },
      { type: "text", text: "What?" },
    ],
  });
  assert.equal(question("", files).content.length, 3);
});

test("what is neither picture nor sound nor film cannot be sent", () => {
  assert.deepEqual(["image/png", "audio/mpeg", "video/mp4", "text/plain", ""].map((type) => kindOf({ type })), [
    "image",
    "audio",
    "video",
    null,
    null,
  ]);
});

test("server-sent events are read however they are cut, until the stream says it is done", async () => {
  const text = 'data: {"n": 1}\n\n: comment\n\ndata: {"n": "é"}\r\n\r\ndata: [DONE]\n\ndata: {"n": 3}\n\n';
  const bytes = new TextEncoder().encode(text);
  for (const cut of [1, 5, 40, bytes.length]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / cut) }, (_, i) => bytes.slice(i * cut, (i + 1) * cut));
    assert.deepEqual(await collect(chunks(stream(...pieces))), [{ n: 1 }, { n: "é" }]);
  }
});

test("an answer grows by its chunks and knows its verdict, tokens and times", () => {
  const answer = new Answer();
  answer.take({ vita: { state: "<1>", p1: 0.9 }, choices: [{ delta: { role: "assistant", content: "" } }] }, 0.1);
  assert.equal(answer.first, null);
  answer.take({ choices: [{ delta: { content: "Two" } }] }, 0.2);
  answer.take({ choices: [{ delta: { content: " words." } }] }, 0.3);
  answer.take({ choices: [{ delta: {}, finish_reason: "stop" }] }, 0.4);
  answer.take({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 3 } }, 0.5);
  const { text, verdict, first, total, reason, usage } = answer;
  assert.deepEqual([text, verdict.state, first, total, reason, usage.completion_tokens], ["Two words.", "<1>", 0.2, 0.5, "stop", 3]);
});

test("the command line holds the whole request, quotes and all, and no key", () => {
  const body = request("m", [{ role: "user", content: "It's $HOME `here`\nEND\n" }]);
  const command = curl("http://localhost/v1/chat/completions", body, true);
  const [, end, json] = /<<'(\w+)'\n([^]*)\n\1\n$/.exec(command);
  assert.equal(end, "END");
  assert.deepEqual(JSON.parse(json), body);
  assert.ok(command.includes("Bearer $OPENAI_API_KEY"));
});

test("a recording is a WAV file", () => {
  const file = Buffer.from(wavUrl([Int16Array.of(1, -2), Int16Array.of(3)], 16000).split(",")[1], "base64");
  assert.equal(file.toString("latin1", 0, 4) + file.toString("latin1", 8, 12), "RIFFWAVE");
  assert.deepEqual([file.readUInt32LE(24), file.readUInt32LE(40), file.length], [16000, 6, 50]);
  assert.deepEqual([44, 46, 48].map((at) => file.readInt16LE(at)), [1, -2, 3]);
});

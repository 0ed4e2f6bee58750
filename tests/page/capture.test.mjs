import assert from "node:assert/strict";
import test from "node:test";

import { processor } from "./load.mjs";

const RATE = 16000;

/** What the worklet sends for a second of a sine at half of full scale. */
function record(rate, hz) {
  const worklet = processor("capture", rate);
  for (let at = 0; at < rate; at += 128) {
    worklet.process([[Float32Array.from({ length: 128 }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * (at + i)) / rate))]]);
  }
  return worklet.sent;
}

/** Amplitude of the sine at `hz`, and the power of everything else in dB below it. */
function measure(samples, hz) {
  let [ss, sc, cc, xs, xc] = [0, 0, 0, 0, 0];
  const wave = (i) => [Math.sin((2 * Math.PI * hz * i) / RATE), Math.cos((2 * Math.PI * hz * i) / RATE)];
  samples.forEach((x, i) => {
    const [s, c] = wave(i);
    [ss, sc, cc, xs, xc] = [ss + s * s, sc + s * c, cc + c * c, xs + x * s, xc + x * c];
  });
  const determinant = ss * cc - sc * sc;
  const [a, b] = [(xs * cc - xc * sc) / determinant, (xc * ss - xs * sc) / determinant];
  const rest = samples.reduce((sum, x, i) => sum + (x - a * wave(i)[0] - b * wave(i)[1]) ** 2, 0);
  return { amplitude: Math.hypot(a, b), clean: 10 * Math.log10(((a * a + b * b) / 2) * (samples.length / rest)) };
}

const middle = (frames) => frames.flatMap((frame) => [...frame]).slice(1600, 14400);

for (const rate of [16000, 44100, 48000, 96000]) {
  test(`at ${rate} Hz a second becomes 50 frames of 20 ms`, () => {
    const frames = record(rate, 440);
    assert.ok(Math.abs(frames.length - 50) <= 1);
    assert.ok(frames.every((frame) => frame instanceof Int16Array && frame.length === 320));
  });

  for (const hz of [300, 1000, 3400, 7000]) {
    test(`at ${rate} Hz a sine of ${hz} Hz passes clean`, () => {
      const { amplitude, clean } = measure(middle(record(rate, hz)), hz);
      assert.ok(Math.abs(amplitude / 16384 - 1) < 0.001, `amplitude ${amplitude}`);
      assert.ok(clean > 75, `${clean} dB`);
    });
  }
}

for (const rate of [44100, 48000]) {
  test(`at ${rate} Hz nothing above 8 kHz folds back into the speech band`, () => {
    for (const hz of [8200, 9000, 12000, 15900]) {
      const loudest = middle(record(rate, hz)).reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      assert.ok(loudest <= 3, `${hz} Hz leaves ${loudest}`);
    }
  });
}

test("a microphone without a signal sends silence, so that time goes on", () => {
  const worklet = processor("capture", 48000);
  for (let i = 0; i < 375; i++) worklet.process([[]]);
  assert.ok(Math.abs(worklet.sent.length - 50) <= 1);
  assert.ok(worklet.sent.every((frame) => frame.every((sample) => sample === 0)));
});

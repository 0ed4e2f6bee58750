import assert from "node:assert/strict";
import test from "node:test";

import { processor } from "./load.mjs";

const QUANTUM = 128;

class Player {
  constructor() {
    this.worklet = processor("playback", 24000);
    this.heard = []; // the samples that were played, without the silence between them
  }

  tell(...commands) {
    for (const command of commands) this.worklet.port.onmessage({ data: command });
  }

  /** One render quantum; returns its samples. */
  quantum() {
    const out = new Float32Array(QUANTUM);
    const before = this.worklet.read;
    this.worklet.process([], [[out]]);
    this.heard.push(...out.subarray(0, this.worklet.read - before));
    return out;
  }

  run(quanta) {
    const samples = [];
    for (let i = 0; i < quanta; i++) samples.push(...this.quantum());
    return samples;
  }

  get reports() {
    return this.worklet.sent.filter(({ why }) => why !== "playing").map(({ why, response, played }) => [why, response, played]);
  }
}

const value = (i) => 1000 + (i % 20000);
const push = (response, from, length) => ({ do: "push", response, pcm: Int16Array.from({ length }, (_, i) => value(from + i)) });
const samples = (from, length) => Array.from({ length }, (_, i) => value(from + i) / 32768);
const silent = (block) => block.every((sample) => sample === 0);

test("a hold is silent within one quantum and a resume goes on with the very next sample", () => {
  const player = new Player();
  player.tell(push("r1", 0, 6000));
  assert.deepEqual(player.run(10), samples(0, 1280));
  player.tell({ do: "hold", response: "r1" });
  player.quantum(); // fades out
  assert.ok(silent(player.run(50)));
  player.tell({ do: "resume", response: "r1" });
  assert.deepEqual(player.run(36), samples(1280, 36 * QUANTUM));
});

test("a flush is silent within one quantum and nothing of what it dropped is heard later", () => {
  const player = new Player();
  player.tell(push("r1", 0, 6000));
  player.run(10);
  player.tell({ do: "flush" });
  player.quantum();
  assert.ok(silent(player.run(50)));
  player.tell(push("r2", 9000, 2560), { do: "end" });
  assert.deepEqual(player.run(20), samples(9000, 2560));
  player.run(2);
  assert.deepEqual(player.reports, [
    ["started", "r1", 128],
    ["flushed", "r1", 1280],
    ["started", "r2", 128],
    ["drained", "r2", 2560],
  ]);
});

test("a hold that comes too late does not silence the next response", () => {
  const player = new Player();
  player.tell(push("r1", 0, 2560), { do: "end" });
  player.run(25);
  player.tell({ do: "hold", response: "r1" }, push("r2", 5000, 2560));
  assert.deepEqual(player.run(20), samples(5000, 2560));
});

test("a gap is counted, and the next start waits for more", () => {
  const player = new Player();
  player.tell(push("r1", 0, 2560));
  player.run(25);
  player.tell(push("r1", 2560, 2560)); // 107 ms: enough for the first start, not after a gap
  player.run(5);
  assert.equal(player.heard.length, 2560);
  player.tell(push("r1", 5120, 640));
  player.run(40);
  player.tell({ do: "end" }); // it ran dry again, but that was the end
  assert.deepEqual(player.heard, samples(0, 5760));
  assert.equal(player.worklet.underruns, 1);
  assert.deepEqual(player.reports.at(-1), ["drained", "r1", 5760]);
});

test("a reply shorter than the start's lead is played when it has ended", () => {
  const player = new Player();
  player.tell(push("r1", 0, 100));
  assert.ok(silent(player.run(20)));
  player.tell({ do: "end" });
  player.run(2);
  assert.deepEqual(player.heard, samples(0, 100));
});

test("no interleaving of holds, resumes and arrivals loses or repeats a sample", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = randomNumbers(seed);
    const player = new Player();
    const parts = 10 + Math.floor(random() * 20);
    let pushed = 0;
    for (let part = 0; part < parts; part++) {
      const length = Math.floor(random() * 2000);
      player.tell(push("r1", pushed, length));
      pushed += length;
      if (random() < 0.4) player.tell({ do: "hold", response: "r1" });
      player.run(Math.floor(random() * 12));
      if (random() < 0.7) player.tell({ do: "resume", response: "r1" });
    }
    player.tell({ do: "resume", response: "r1" }, { do: "end" });
    player.run(Math.ceil(pushed / QUANTUM) + 2);
    assert.equal(player.heard.findIndex((sample, i) => sample !== value(i) / 32768), -1, `seed ${seed}`);
    assert.deepEqual(player.reports.at(-1), ["drained", "r1", pushed], `seed ${seed}`);
  }
});

/** Mulberry32, so that a failure can be repeated. */
function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

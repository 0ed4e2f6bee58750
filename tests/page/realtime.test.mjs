import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { load } from "./load.mjs";

const { Line } = await load("realtime.js");

/** Time that passes when a test says so. */
const clock = {
  now: 1e12,
  timers: new Map(), // by their number: [when, what]
  count: 0,
  pass(ms) {
    for (const end = this.now + ms; ; ) {
      const [number, [when, what]] = [...this.timers].sort(([, [a]], [, [b]]) => a - b)[0] ?? [null, [Infinity]];
      this.now = Math.min(when, end);
      if (when > end) return;
      this.timers.delete(number);
      what();
    }
  },
};
Date.now = () => clock.now;
globalThis.setTimeout = (what, ms) => clock.timers.set(++clock.count, [clock.now + ms, what]) && clock.count;
globalThis.clearTimeout = (number) => clock.timers.delete(number);

/** The sockets the page opened; they say nothing by themselves. */
const sockets = [];
const last = () => sockets.at(-1);

globalThis.document = { baseURI: "http://localhost/" };
globalThis.location = { hash: "" };
globalThis.addEventListener = globalThis.removeEventListener = () => {};
globalThis.WebSocket = class {
  static OPEN = 1;
  static CLOSED = 3;

  constructor(url) {
    Object.assign(this, { url, readyState: 0, bufferedAmount: 0, sent: [] });
    sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text).type);
  }

  close() {
    this.readyState = WebSocket.CLOSED;
  }

  opens(...events) {
    this.readyState = WebSocket.OPEN;
    this.onopen();
    for (const event of events) this.says(event);
  }

  says(event) {
    this.onmessage({ data: JSON.stringify(event) });
  }
};

beforeEach(() => {
  sockets.length = 0;
  clock.timers.clear();
});

/** A line in a session, and what its callbacks were told. */
function begun() {
  const told = [];
  const line = new Line({
    onCreated: () => told.push("created"),
    onEvent: () => {},
    onBroken: () => told.push("broken"),
    onBack: (seconds) => told.push(`back ${seconds.toFixed(1)}`),
    onLost: (problem, what) => told.push([problem.key, what]),
  });
  last().opens({ type: "session.created", resume_token: "t", resume_s: 30 });
  return { line, told };
}

/** Seconds in which the server answers heartbeats, or is not there. */
function pass(line, seconds, { answered = true } = {}) {
  for (let second = 0; second < seconds; second++) {
    clock.pass(1000);
    const before = last().sent.length;
    line.beat();
    if (answered && last().sent.length > before) last().says({ type: "session.heartbeat" });
  }
}

test("a heartbeat goes out every five seconds, also when nobody speaks, and while it is answered all is well", () => {
  const { line, told } = begun();
  pass(line, 60);
  assert.deepEqual(last().sent, Array(12).fill("session.heartbeat"));
  assert.deepEqual([told, sockets.length], [["created"], 1]);
});

test("a connection that has fallen silent is left within 10 s, and the session taken up over a new one", () => {
  const { line, told } = begun();
  pass(line, 20);
  pass(line, 10, { answered: false });
  assert.deepEqual([told.at(-1), sockets.length], ["broken", 2]);
  assert.match(last().url.href, /resume_token=t/);
  last().opens({ type: "session.resumed" });
  assert.match(told.at(-1), /^back 1\d\.\d$/);
  pass(line, 60);
  assert.equal(sockets.length, 2);
});

test("after minutes of sleep the session is asked for once; that it is gone is said as it is, not as a restart", () => {
  const { line, told } = begun();
  pass(line, 20);
  clock.now += 600_000;
  line.beat();
  clock.pass(250);
  assert.deepEqual([told.at(-1), sockets.length], ["broken", 2]);
  last().opens({ type: "error", error: { code: "session_not_found", message: "" } });
  last().onclose({ code: 1008, reason: "" });
  assert.deepEqual(told.at(-1), ["expired", { again: true, at_once: true }]);
});

test("a server that was restarted while it was waiting for us does not know the session: that is said", () => {
  const { told } = begun();
  last().onclose({ code: 1006, reason: "" });
  clock.pass(250);
  last().opens({ type: "error", error: { code: "session_not_found", message: "" } });
  last().onclose({ code: 1008, reason: "" });
  assert.deepEqual(told.at(-1), ["restarted", { again: true, at_once: true }]);
});

test("a network that stays away is tried for as long as the server waits", () => {
  const { told } = begun();
  last().onclose({ code: 1006, reason: "" });
  for (let second = 0; second < 40; second++) {
    clock.pass(1000);
    if (last().readyState === 0) last().onclose({ code: 1006, reason: "" });
    last().readyState = WebSocket.CLOSED;
  }
  assert.deepEqual(told.at(-1), ["lost", { again: true }]);
  assert.ok(sockets.length > 10, `${sockets.length} tries`);
});

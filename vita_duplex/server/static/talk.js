// The page: one button, one session at a time.

import { FRAME_S, Loudspeaker, Microphone, OUTPUT_RATE } from "./audio.js";
import { Conversation } from "./conversation.js";
import { Problem } from "./problem.js";
import { Realtime, readiness, realtimeUrl } from "./realtime.js";
import { View } from "./view.js";

const MUTE_FRAMES = 250; // 5 s without a single sample that is not zero: muted in the system or at the device
const LOOK_MS = 1000;
const LOOK_WHILE_READY_MS = 10000;

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

class Talk {
  constructor(view) {
    this.view = view;
    this.conversation = new Conversation();
    this.phase = "idle"; // waiting (for the server), asking (for the microphone), connecting, live or lost
    this.server = undefined; // what /ready said; null when it did not answer
    this.session = null; // its AbortController: stop() also ends a start that is still on its way
    this.line = this.microphone = this.loudspeaker = this.wakeLock = null;
    this.unsent = null; // a question typed before the connection was open
    this.asked = null; // {id, text} of the last typed question
    this.level = 0;
    this.sound = { underruns: 0, dropped: 0 }; // the last report of the playback worklet
  }

  // ---- what the person does

  press() {
    if (this.phase === "idle" || this.phase === "lost") this.start(true);
    else if (this.phase === "live" && !this.microphone) this.addMicrophone();
    else this.stop();
  }

  ask(text) {
    if (this.phase === "live") {
      this.asked = { id: this.line.ask(text), text };
      return;
    }
    this.unsent = text;
    if (this.phase === "idle" || this.phase === "lost") this.start(false);
  }

  stopReply() {
    if (this.conversation.reply) this.line?.stopReply();
  }

  unblockSound() {
    this.loudspeaker?.unblock();
    this.microphone?.unblock();
  }

  // ---- the way into a session and out of it

  async start(withMicrophone) {
    if (!window.isSecureContext) {
      this.fail(insecure(), "idle");
      return;
    }
    const session = (this.session = new AbortController());
    this.view.problem(null);
    try {
      this.loudspeaker = new Loudspeaker((report) => this.played(report), () => this.show());
      await this.untilReady(session.signal);
      if (withMicrophone) await this.openMicrophone(session.signal);
      await this.loudspeaker.ready;
      session.signal.throwIfAborted();
      this.connect();
    } catch (error) {
      if (!session.signal.aborted) this.fail(error, "idle");
    }
  }

  async untilReady(signal) {
    this.enter("waiting");
    while (!(await this.look(signal))) await sleep(LOOK_MS);
    signal.throwIfAborted();
  }

  async openMicrophone(signal) {
    const before = this.phase;
    this.enter("asking");
    let frames = 0;
    let heard = false;
    const microphone = await Microphone.open(
      (pcm) => {
        heard ||= pcm.some((sample) => sample !== 0);
        if (++frames === MUTE_FRAMES && !heard) {
          this.view.problem(
            new Problem("The microphone is silent.", "It may be muted at the device or in the system's settings."),
          );
        }
        this.hear(pcm);
      },
      () => this.microphoneGone(),
    );
    if (signal.aborted) microphone.close();
    signal.throwIfAborted();
    this.microphone = microphone;
    this.enter(before);
  }

  async addMicrophone() {
    const { signal } = this.session;
    try {
      await this.openMicrophone(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.view.problem(error);
      this.enter("live");
    }
  }

  connect() {
    this.enter("connecting");
    this.conversation.begin();
    this.line = new Realtime(realtimeUrl(), {
      onOpen: () => this.opened(),
      onEvent: (event) => this.receive(event),
      onLost: (problem) => this.fail(problem, "lost"),
    });
  }

  opened() {
    this.enter("live");
    this.keepAwake();
    if (this.unsent !== null) this.ask(this.unsent);
    this.unsent = null;
  }

  stop() {
    this.leave();
    this.enter("idle");
  }

  fail(error, phase) {
    if (!(error instanceof Problem)) console.error(error);
    this.leave();
    this.view.problem(error);
    this.enter(phase);
    this.look();
  }

  leave() {
    this.session?.abort();
    for (const part of [this.line, this.microphone, this.loudspeaker]) part?.close();
    this.wakeLock?.release();
    this.line = this.microphone = this.loudspeaker = this.wakeLock = null;
    if (this.unsent !== null) this.view.giveBack(this.unsent);
    this.unsent = null;
    this.level = 0;
    this.conversation.end();
  }

  // ---- what happens during a session

  receive(event) {
    this.notice = noticeOf(event) ?? this.notice;
    if (event.type === "error") this.complain(event.error);
    if (event.type === "response.created") this.view.problem(null);
    for (const command of this.conversation.receive(event)) this.loudspeaker.perform(command);
    this.show();
  }

  complain({ code, message, event_id }) {
    if (code === "response_cancel_not_active") return; // the reply ended while Stop was on its way
    this.view.problem(new Problem("The server reports a problem.", message));
    if (this.asked && this.asked.id === event_id) this.view.giveBack(this.asked.text);
  }

  played(report) {
    this.sound = report;
    this.conversation.played(report);
    this.show();
  }

  hear(pcm) {
    if (this.phase !== "live") return;
    const power = pcm.reduce((sum, sample) => sum + sample * sample, 0) / pcm.length;
    const decibels = 10 * Math.log10(power / 32768 ** 2 + 1e-9);
    this.level = Math.max(0, Math.min(1, 1 + decibels / 50), this.level - 0.08);
    this.line.sendAudio(pcm);
    this.show();
  }

  microphoneGone() {
    this.microphone?.close();
    this.microphone = null;
    this.view.problem(new Problem("The microphone is gone.", "It was unplugged or taken away. Press Start to try again."));
    this.show();
  }

  /** A phone that goes to sleep would end the talk. */
  keepAwake() {
    if (this.phase !== "live" || document.hidden) return;
    navigator.wakeLock?.request("screen").then(
      (lock) => (this.wakeLock = lock),
      () => {}, // not allowed on low battery; nothing to be done
    );
  }

  // ---- the server, while no session runs

  async look(signal) {
    this.server = await readiness(signal);
    this.show();
    return this.server?.ready || signal?.aborted;
  }

  async watch() {
    for (;;) {
      const between = this.phase === "idle" || this.phase === "lost";
      if (between && !document.hidden) await this.look();
      await sleep(this.server?.ready ? LOOK_WHILE_READY_MS : LOOK_MS);
    }
  }

  // ---- what is shown

  enter(phase) {
    this.phase = phase;
    this.show();
  }

  get mood() {
    const { mood } = this.conversation;
    switch (this.phase) {
      case "live":
        return mood === "listening" && !this.microphone ? "typing" : mood;
      case "waiting":
      case "idle":
        if (this.server === null) return "unreachable";
        if (this.server?.loading?.error) return "broken";
        if (this.server?.ready === false) return "loading";
        return this.phase === "idle" ? "idle" : "connecting";
      default:
        return this.phase;
    }
  }

  get button() {
    if (this.phase === "lost") return "Reconnect";
    return this.phase === "idle" || (this.phase === "live" && !this.microphone) ? "Start" : "Stop";
  }

  get hint() {
    if (this.mood === "broken") return this.server.loading.error;
    if (this.mood === "loading") return this.server.loading?.phase ?? null;
    if (this.phase === "live" && this.notice) return this.notice;
    if (this.phase === "lost" && this.server === null) return "The server does not answer. Trying again …";
    if (this.phase === "lost" && this.server?.ready === false) return "The server is starting again.";
    return null;
  }

  get numbers() {
    const { underruns: gaps, dropped } = this.sound;
    const unsent = this.line?.droppedFrames ?? 0;
    const parts = [];
    if (gaps > 0) parts.push(`${gaps} ${gaps === 1 ? "gap" : "gaps"} in the sound`);
    if (dropped > 0) parts.push(`${(dropped / OUTPUT_RATE).toFixed(1)} s of sound lost`);
    if (unsent > 0) parts.push(`slow connection: ${(unsent * FRAME_S).toFixed(1)} s of speech lost`);
    return parts.join(" · ");
  }

  /** Draw at the next frame, however much happened until then. */
  show() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      this.draw();
    });
  }

  draw() {
    this.view.mood(this.mood, this.button, this.hint);
    this.view.loading(this.mood === "loading" ? this.server : null);
    this.view.level(this.level);
    this.view.voice(this.phase === "live" && this.conversation.voice);
    this.view.soundBlocked(this.phase === "live" && this.loudspeaker.blocked);
    this.view.showRoles(this.conversation.roles);
    this.view.showEntries(this.conversation.entries);
    this.view.numbers(this.numbers);
  }
}

/** Without a secure context a browser offers neither microphone nor audio worklets. */
function insecure() {
  const { hostname, port } = location;
  const tunnel = `ssh -L ${port || 80}:localhost:${port || 80} ${hostname}`;
  return new Problem(
    "Speech needs https:// or localhost.",
    `Browsers give this address neither the microphone nor the loudspeaker. Open the page with https://, or run “${tunnel}” ` +
      `on your machine and open http://localhost${port && `:${port}`}.`,
  );
}

const view = new View();
const talk = new Talk(view);

view.bind({
  press: () => talk.press(),
  ask: (text) => talk.ask(text),
  stopReply: () => talk.stopReply(),
  unblockSound: () => talk.unblockSound(),
});
document.addEventListener("visibilitychange", () => talk.keepAwake());
if (!window.isSecureContext) view.problem(insecure());
talk.show();
talk.watch();

/** What the server says about itself; "" when that is over. */
function noticeOf({ type, position, estimate_s, seconds_left }) {
  if (type === "vita.queue") return `All places are taken. You are number ${position}; about ${Math.ceil(estimate_s)} s.`;
  if (type === "vita.draining") return `The server is stopping; this answer has ${Math.ceil(seconds_left)} s.`;
  return type === "session.created" ? "" : undefined;
}

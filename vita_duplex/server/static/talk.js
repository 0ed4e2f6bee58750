// The talk page: one button, one session at a time.

import { Conversation } from "./conversation.js";
import { Loudspeaker, OUTPUT_RATE } from "./loudspeaker.js";
import { INPUT_RATE, Microphone } from "./microphone.js";
import { buttonOf, hintOf, moodOf, soundNumbers } from "./mood.js";
import { Problem } from "./problem.js";
import { Line, readiness } from "./realtime.js";
import { SettingsView } from "./settings_view.js";
import { Sharing } from "./sharing.js";
import { Timeline } from "./timeline.js";
import { TimelineView } from "./timeline_view.js";
import { View } from "./view.js";

const MUTE_FRAMES = 250; // 5 s without a single sample that is not zero: muted in the system or at the device
const LOOK_MS = 1000;
const LOOK_WHILE_READY_MS = 10000;
const SERVERS = ["voice", "barge_in", "verdict_threshold", "threshold", "silence", "instructions", "echo"]; // settings it is told

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

class Talk {
  constructor(view, chosen) {
    this.view = view;
    this.chosen = chosen; // what the person has set
    this.conversation = new Conversation();
    this.timeline = new Timeline();
    this.zero = performance.now(); // of the timeline
    this.phase = "idle"; // waiting (for the server), asking (for the microphone), connecting, queued, live, reconnecting or lost
    this.server = undefined; // what /ready said; null when it did not answer
    this.session = null; // its AbortController: stop() also ends a start that is still on its way
    this.line = this.microphone = this.loudspeaker = this.wakeLock = null;
    this.sharing = new Sharing(this);
    this.unsent = null; // a question typed before the connection was open
    this.asked = null; // {id, text} of the last typed question
    this.microphoneMissed = false; // it was taken away in the middle of a talk
    this.level = 0;
    this.place = null; // in the queue: {position, estimate_s}
    this.notice = null; // what the server says about itself
    this.sound = { underruns: 0, dropped: 0 }; // the last report of the playback worklet
  }

  get now() {
    return (performance.now() - this.zero) / 1000;
  }

  get settings() {
    return this.chosen.settings;
  }

  // ---- what the person does

  press() {
    if (this.phase === "idle" || this.phase === "lost") this.start(true);
    else if (this.phase === "live" && !this.microphone) this.addMicrophone();
    else this.stop();
  }

  ask(text) {
    if (this.phase === "live") {
      this.asked = { id: this.sendQuestion(text), text };
      return;
    }
    this.unsent = text;
    if (this.phase === "idle" || this.phase === "lost") this.start(false);
  }

  sendQuestion(text) {
    const { id, content } = this.sharing.question(text);
    const sent = this.line.send({ type: "conversation.item.create", item: { type: "message", role: "user", id, content } });
    if (text !== "") this.line.send({ type: "response.create" });
    return sent;
  }

  stopReply() { // by its id: without one a cancel in the first second of a reply is taken for an echo
    if (this.conversation.reply) this.line?.send({ type: "response.cancel", response_id: this.conversation.reply.response });
  }

  /** Some browsers let a sound that the system stopped go on only after a gesture; any will do. */
  touched() {
    if (this.soundBlocked) this.unblockSound();
  }

  unblockSound() {
    this.loudspeaker?.unblock();
    this.microphone?.unblock();
  }

  async changed(names) {
    const among = (...some) => some.some((name) => names.includes(name));
    if (SERVERS.some((name) => names.includes(name)) && this.phase === "live") this.configure();
    if (among("language")) this.view.problem(this.view.trouble);
    if (among("speaker", "echo")) await this.loudspeaker?.route(this.settings);
    if (among("microphone", "echo", "noise", "gain") && this.microphone) await this.reopenMicrophone();
    this.show();
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
      this.loudspeaker = new Loudspeaker(this.settings, (report) => this.played(report), () => this.show());
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
    await this.chosen.listVoices();
    signal.throwIfAborted();
  }

  async openMicrophone(signal) {
    const before = this.phase;
    this.enter("asking");
    let frames = 0;
    let heard = false;
    let muted = false;
    const microphone = await Microphone.open(this.settings, {
      onFrame: (pcm) => {
        heard ||= pcm.some((sample) => sample !== 0);
        if (++frames >= MUTE_FRAMES && !heard && !muted && !this.view.trouble) {
          muted = true; // said once, and not in the place of another problem
          this.view.problem(new Problem("mic_silent"));
        }
        this.hear(pcm);
      },
      onEnded: () => this.microphoneGone(),
      onBlocked: () => this.show(),
    });
    if (signal.aborted) microphone.close();
    signal.throwIfAborted();
    this.microphone = microphone;
    this.microphoneMissed = false;
    this.chosen.listDevices(); // they have names from now on
    if (this.phase === "asking") this.enter(before);
  }

  async addMicrophone() {
    const { signal } = this.session;
    try {
      await this.openMicrophone(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.view.problem(error);
      if (this.phase === "asking") this.enter("live");
    }
  }

  async reopenMicrophone() {
    this.microphone?.close();
    this.microphone = null;
    await this.addMicrophone();
  }

  connect() {
    this.enter("connecting");
    this.conversation.begin();
    this.timeline.begin(this.now);
    this.sharing.forget();
    this.loudspeaker.perform({ do: "flush" }); // the next session counts its replies from 1 again
    this.line = new Line({
      onCreated: (event) => this.created(event),
      onEvent: (event) => this.receive(event),
      onBroken: () => this.enter("reconnecting"),
      onBack: (seconds) => this.back(seconds),
      onLost: (problem, what) => this.lost(problem, what),
    });
  }

  created({ session }) {
    this.place = this.notice = null;
    this.chosen.serversOwn(session);
    this.enter("live");
    this.configure();
    this.keepAwake();
    this.sendUnsent();
    this.findMicrophone();
  }

  configure() {
    this.line.send({ type: "session.update", session: this.chosen.sessionFields(INPUT_RATE, OUTPUT_RATE) });
    // One of the two sees to the echo. Apart: a server that cannot refuses the whole event.
    const vita = { echo_guard: !this.settings.echo };
    this.line.send({ type: "session.update", session: { type: "realtime", vita } });
  }

  back(seconds) {
    this.conversation.add({ kind: "mark", key: "talk.resumed", values: { seconds: seconds.toFixed(1) } });
    this.enter("live");
    this.sendUnsent();
    this.findMicrophone();
  }

  sendUnsent() {
    if (this.unsent !== null) this.ask(this.unsent);
    this.unsent = null;
  }

  stop() {
    this.leave();
    this.enter("idle");
  }

  /** The session is over; with `again`, the devices stay open and the next one begins by itself. */
  async lost(problem, { again, after_s = 0, at_once = false }) {
    this.line = null;
    if (!again) {
      this.fail(problem, "lost");
      return;
    }
    const { signal } = this.session;
    this.conversation.end();
    this.loudspeaker.perform({ do: "flush" });
    this.view.problem(problem);
    this.enter("waiting");
    try {
      if (!at_once) await sleep(Math.max(LOOK_MS, 1000 * after_s));
      signal.throwIfAborted();
      await this.untilReady(signal);
      this.connect();
    } catch (error) {
      if (!signal.aborted) this.fail(error, "lost");
    }
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
    this.line?.leave();
    for (const part of [this.microphone, this.loudspeaker, this.sharing]) part?.close();
    this.wakeLock?.release();
    this.line = this.microphone = this.loudspeaker = this.wakeLock = this.place = this.notice = null;
    if (this.unsent !== null) this.view.giveBack(this.unsent);
    this.unsent = null;
    this.level = 0;
    this.conversation.end();
  }

  // ---- what happens during a session

  receive(event) {
    this.noteNotice(event);
    this.timeline.note(event, this.now);
    if (event.type === "error") this.complain(event.error);
    if (event.type === "response.created") this.view.problem(null);
    for (const command of this.conversation.receive(event)) this.loudspeaker.perform(command);
    const question = this.sharing.shown;
    if (question && event.item?.id === question.id) this.conversation.showPictures(question.id, question.pictures);
    this.show();
  }

  noteNotice({ type, position, estimate_s, seconds_left }) {
    if (type === "vita.queue") {
      this.place = { position, seconds: Math.ceil(estimate_s) };
      this.phase = "queued";
    }
    if (type === "vita.draining") this.notice = { seconds: Math.ceil(seconds_left) };
  }

  complain({ code, message, param, event_id }) {
    if (param === "session.vita.echo_guard") return; // it has none
    if (["response_cancel_not_active", "item_not_found", "utterance_gone"].includes(code)) return; // too late for it
    if (this.phase !== "live") return; // the line says why there is no session
    if (code === "image_not_supported") {
      this.sharing.forget();
      this.sharing.stop();
      this.view.problem(new Problem("blind"));
    } else {
      this.view.problem(new Problem("server", message));
    }
    if (this.asked && this.asked.id === event_id) this.view.giveBack(this.asked.text);
  }

  played(report) {
    this.sound = report;
    const item_id = this.conversation.played(report);
    this.timeline.played(report, this.now);
    if (item_id && report.played > 0) {
      const played_ms = Math.floor((1000 * report.played) / OUTPUT_RATE);
      this.line?.send({ type: "playback.ack", item_id, played_ms });
    }
    this.show();
  }

  hear(pcm) {
    if (!this.line) return;
    let power = 0;
    for (const sample of pcm) power += sample * sample;
    const decibels = 10 * Math.log10(power / pcm.length / 32768 ** 2 + 1e-9);
    const loudness = Math.max(0, Math.min(1, 1 + decibels / 50));
    this.level = Math.max(loudness, this.level - 0.08);
    this.timeline.level(loudness, this.now);
    if (this.phase === "live") this.line.sendAudio(pcm);
    this.show();
  }

  microphoneGone() {
    this.microphone?.close();
    this.microphone = null;
    this.microphoneMissed = true;
    this.view.problem(new Problem("mic_gone"));
    this.show();
    this.findMicrophone();
  }

  /** A headset came or went. What was chosen once is taken when it is there. */
  async devicesChanged() {
    this.chosen.listDevices();
    this.loudspeaker?.choose(this.settings.speaker);
    const wanted = this.settings.microphone;
    const there = (await navigator.mediaDevices.enumerateDevices()).some(({ deviceId }) => deviceId === wanted);
    const other = this.microphone && this.microphone.track.getSettings().deviceId !== wanted;
    if (wanted && there && other && this.phase === "live") {
      await this.reopenMicrophone();
      this.sayMicrophone();
    }
    await this.findMicrophone();
  }

  /** In the place of one that is gone another is taken, and the talk goes on. */
  async findMicrophone() {
    if (this.phase !== "live" || !this.microphoneMissed) return;
    this.microphoneMissed = false;
    const found = (await navigator.mediaDevices.enumerateDevices()).some(({ kind }) => kind === "audioinput");
    if (found) await this.addMicrophone();
    this.microphoneMissed = this.microphone === null;
    this.sayMicrophone();
  }

  sayMicrophone() {
    if (this.microphone) this.view.problem(new Problem("mic_changed", "", { name: this.microphone.track.label }));
  }

  /** After the laptop slept, or the page was in the background: contexts were stopped, sockets are gone. */
  wakeUp() {
    if (document.hidden) return;
    this.keepAwake();
    if (this.phase !== "live" && this.phase !== "reconnecting") return;
    this.unblockSound();
    this.line?.hurry();
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

  get soundBlocked() {
    return this.phase === "live" && (this.loudspeaker.blocked || (this.microphone?.blocked ?? false));
  }

  /** Draw at the next frame, however much happened until then. */
  show() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      this.draw();
    });
  }

  draw() {
    const mood = moodOf(this);
    this.view.mood(mood, buttonOf(this), hintOf(this, mood));
    this.view.loading(mood === "loading" ? this.server : null);
    this.view.level(this.level);
    this.view.voice(this.phase === "live" && this.conversation.voice);
    this.view.soundBlocked(this.soundBlocked);
    this.view.sharing(this.sharing.camera !== null);
    this.view.showRoles(this.conversation.roles);
    this.view.showEntries(this.conversation.entries);
    this.view.numbers(soundNumbers(this));
  }
}

/** Without a secure context a browser offers neither microphone nor audio worklets. */
function insecure() {
  const { hostname, port } = location;
  const tunnel = `ssh -L ${port || 80}:localhost:${port || 80} ${hostname}`;
  return new Problem("insecure", "", { tunnel, local: `http://localhost${port && `:${port}`}` });
}

const view = new View();
const chosen = new SettingsView((names) => talk.changed(names));
const talk = new Talk(view, chosen);
new TimelineView(talk.timeline, () => talk.now);

view.bind({
  press: () => talk.press(),
  ask: (text) => talk.ask(text),
  hasPictures: () => talk.sharing.pictures.length > 0,
  stopReply: () => talk.stopReply(),
  correct: (entry) => talk.line?.send(talk.conversation.takeCorrection(entry)),
  unblockSound: () => talk.unblockSound(),
  addPictures: (files) => talk.sharing.addPictures(files),
  share: (source) => talk.sharing.toggle(source),
});
document.addEventListener("visibilitychange", () => talk.wakeUp());
for (const gesture of ["pointerdown", "keydown"]) document.addEventListener(gesture, () => talk.touched());
new Worker(new URL("pulse.worker.js", import.meta.url)).onmessage = () => talk.line?.beat();
navigator.mediaDevices?.addEventListener("devicechange", () => talk.devicesChanged());
if (!window.isSecureContext) view.problem(insecure());
talk.show();
talk.watch();

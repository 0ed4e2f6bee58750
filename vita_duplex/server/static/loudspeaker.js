// A loudspeaker that can be stopped at once.

import { loopback } from "./loopback.js";
import { keepRunning } from "./running.js";

const PLAYBACK = new URL("playback.worklet.js", import.meta.url);

export const OUTPUT_RATE = 24000; // as the worklet has it

/** Plays what it is given, in order; holds, resumes and flushes within one render quantum. */
export class Loudspeaker {
  /** Call inside a click or key handler: browsers start sound only then. `settings` are those of settings.js. */
  constructor(settings, onReport, onBlocked) {
    this.context = new AudioContext({ sampleRate: OUTPUT_RATE, latencyHint: "interactive" });
    this.onBlocked = onBlocked;
    keepRunning(this.context, onBlocked);
    this.loop = null; // the way that the echo canceller knows, where it is used
    this.silenced = false; // the element of that way was not allowed to play
    this.ready = this.start(settings, onReport);
  }

  async start(settings, onReport) {
    this.context.resume(); // not awaited: it settles only once sound is allowed, and the talk can begin before
    await this.context.audioWorklet.addModule(PLAYBACK);
    this.node = new AudioWorkletNode(this.context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => onReport(data);
    await this.route(settings);
  }

  /** Lead the sound to the chosen device, past the echo canceller if one is at work. */
  async route({ echo, speaker }) {
    this.loop?.close();
    this.loop = null;
    this.node.disconnect();
    if (echo) await this.routeThroughLoopback();
    if (!this.loop) this.node.connect(this.context.destination);
    await this.choose(speaker);
  }

  async choose(speaker) {
    /** @type {any} setSinkId is missing in some browsers: then the system's choice it is */
    const sink = this.loop?.element ?? this.context;
    await sink.setSinkId?.(speaker)?.catch(() => sink.setSinkId("")); // a device that is gone
  }

  async routeThroughLoopback() {
    const outlet = this.context.createMediaStreamDestination();
    outlet.channelCount = 1;
    try {
      this.loop = await loopback(outlet.stream);
    } catch {
      return; // WebRTC is switched off: better heard with an echo than not at all
    }
    this.node.connect(outlet);
    await this.playLoop();
    this.loop.element.onpause = () => this.playLoop(); // by the system, as it stops contexts
  }

  async playLoop() {
    await this.loop.element.play().then(
      () => (this.silenced = false),
      () => (this.silenced = true),
    );
    this.onBlocked();
  }

  get blocked() {
    return this.context.state !== "running" || (this.loop !== null && this.silenced);
  }

  async unblock() {
    await this.context.resume();
    if (this.loop) await this.playLoop();
  }

  /** One of the commands listed at the top of playback.worklet.js. */
  perform(command) {
    this.node.port.postMessage(command, command.pcm ? [command.pcm.buffer] : []);
  }

  close() {
    this.ready.catch(() => {}); // closed while it was still loading
    this.loop?.close();
    this.context.onstatechange = null;
    this.context.close();
  }
}

// The two ends of the sound: a microphone that yields PCM16 frames, a loudspeaker that can be stopped at once.

import { Problem } from "./problem.js";

const CAPTURE = new URL("capture.worklet.js", import.meta.url);
const PLAYBACK = new URL("playback.worklet.js", import.meta.url);

export const INPUT_RATE = 16000; // as the worklets have them
export const OUTPUT_RATE = 24000;
export const FRAME_S = 0.02;

const REFUSALS = {
  NotAllowedError: [
    "The microphone is blocked.",
    "Allow it for this page (the icon beside the address), then press Start again. Typing works without it.",
  ],
  NotFoundError: ["No microphone was found.", "Plug one in and press Start again. Typing works without it."],
  NotReadableError: [
    "The microphone cannot be opened.",
    "Another program may be using it. Close that program and press Start again.",
  ],
};

/** 20 ms frames of 16 kHz PCM16 from the microphone. */
export class Microphone {
  static async open(onFrame, onEnded) {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch (error) {
      throw new Problem(...(REFUSALS[error.name] ?? ["The microphone did not start.", error.message]));
    }
    const microphone = new Microphone(stream);
    try {
      await microphone.start(onFrame, onEnded);
    } catch (error) {
      microphone.close();
      throw error;
    }
    return microphone;
  }

  constructor(stream) {
    this.stream = stream;
    // The device's own rate: Firefox refuses a microphone in a context of another rate. The worklet resamples.
    this.context = new AudioContext({ latencyHint: "interactive" });
  }

  async start(onFrame, onEnded) {
    await this.context.audioWorklet.addModule(CAPTURE);
    const node = new AudioWorkletNode(this.context, "capture", { channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data }) => onFrame(data);
    this.context.createMediaStreamSource(this.stream).connect(node);
    node.connect(this.context.destination); // silent; some browsers run only what leads to the destination
    this.stream.getAudioTracks()[0].addEventListener("ended", onEnded);
    await this.context.resume();
  }

  unblock() {
    return this.context.resume();
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
  }
}

/** Plays what it is given, in order; holds, resumes and flushes within one render quantum. */
export class Loudspeaker {
  /** Call inside a click or key handler: browsers start sound only then. */
  constructor(onReport, onBlocked) {
    this.context = new AudioContext({ sampleRate: OUTPUT_RATE, latencyHint: "interactive" });
    this.context.onstatechange = onBlocked;
    this.ready = this.start(onReport);
  }

  async start(onReport) {
    this.context.resume(); // not awaited: it settles only once sound is allowed, and the talk can begin before
    await this.context.audioWorklet.addModule(PLAYBACK);
    this.node = new AudioWorkletNode(this.context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => onReport(data);
    this.node.connect(this.context.destination);
  }

  get blocked() {
    return this.context.state === "suspended" || this.context.state === "interrupted";
  }

  unblock() {
    return this.context.resume();
  }

  /** One of the commands listed at the top of playback.worklet.js. */
  perform(command) {
    this.node.port.postMessage(command, command.pcm ? [command.pcm.buffer] : []);
  }

  close() {
    this.ready.catch(() => {}); // closed while it was still loading
    this.context.close();
  }
}

// A microphone that yields PCM16 frames.

import { Problem } from "./problem.js";
import { keepRunning } from "./running.js";

const CAPTURE = new URL("capture.worklet.js", import.meta.url);

export const INPUT_RATE = 16000; // as the worklet has it
export const FRAME_S = 0.02;

const REFUSALS = {
  NotAllowedError: "mic_blocked",
  NotFoundError: "mic_none",
  OverconstrainedError: "mic_none",
  NotReadableError: "mic_busy",
};

/** 20 ms frames of 16 kHz PCM16 from the microphone. */
export class Microphone {
  /** `onFrame(Int16Array)`, `onEnded()` when the device is gone, `onBlocked()` when the browser stops or starts the sound. */
  static async open(settings, { onFrame, onEnded, onBlocked }) {
    const stream = await openStream(settings);
    const microphone = new Microphone(stream, onBlocked);
    try {
      await microphone.start(onFrame, onEnded);
    } catch (error) {
      microphone.close();
      throw error;
    }
    return microphone;
  }

  constructor(stream, onBlocked) {
    this.stream = stream;
    // The device's own rate: Firefox refuses a microphone in a context of another rate. The worklet resamples.
    this.context = new AudioContext({ latencyHint: "interactive" });
    keepRunning(this.context, onBlocked);
  }

  get track() {
    return this.stream.getAudioTracks()[0];
  }

  async start(onFrame, onEnded) {
    await this.context.audioWorklet.addModule(CAPTURE);
    const node = new AudioWorkletNode(this.context, "capture", { channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data }) => onFrame(data);
    this.context.createMediaStreamSource(this.stream).connect(node);
    node.connect(this.context.destination); // silent; some browsers run only what leads to the destination
    this.track.addEventListener("ended", onEnded);
    await this.context.resume();
  }

  get blocked() {
    return this.context.state !== "running";
  }

  unblock() {
    return this.context.resume();
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.context.onstatechange = null;
    this.context.close();
  }
}

async function openStream({ microphone, echo, noise, gain }) {
  const audio = { channelCount: 1, echoCancellation: echo, noiseSuppression: noise, autoGainControl: gain };
  try {
    return await chosenStream(audio, microphone);
  } catch (error) {
    throw new Problem(REFUSALS[error.name] ?? "mic_other", REFUSALS[error.name] ? "" : error.message);
  }
}

/** `exact`, for Chromium passes over what is only `ideal`. A headset that is not there today is no reason for silence. */
async function chosenStream(audio, microphone) {
  const { mediaDevices } = navigator;
  if (microphone) {
    try {
      return await mediaDevices.getUserMedia({ audio: { ...audio, deviceId: { exact: microphone } } });
    } catch (error) {
      if (error.name !== "OverconstrainedError" && error.name !== "NotFoundError") throw error;
    }
  }
  return mediaDevices.getUserMedia({ audio });
}

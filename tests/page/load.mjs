// The page's files outside a browser.

import { readFileSync } from "node:fs";

const STATIC = new URL("../../vita_duplex/server/static/", import.meta.url);

const load = (name) => import(`data:text/javascript,${encodeURIComponent(readFileSync(new URL(name, STATIC), "utf8"))}`);

export const { Conversation } = await load("conversation.js");

const processors = new Map();
globalThis.registerProcessor = (name, processor) => processors.set(name, processor);
globalThis.AudioWorkletProcessor = class {
  constructor() {
    this.sent = [];
    this.port = { postMessage: (message) => this.sent.push(message) };
  }
};
await load("capture.worklet.js");
await load("playback.worklet.js");

/** A worklet's processor in a context of that rate; what it posts is in `sent`. */
export function processor(name, rate) {
  globalThis.sampleRate = rate;
  return new (processors.get(name))();
}

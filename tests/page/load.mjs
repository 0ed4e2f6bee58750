// The page's files outside a browser.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const STATIC = fileURLToPath(new URL("../../vita_duplex/server/static/", import.meta.url));
const COPY = mkdtempSync(join(tmpdir(), "page-")); // says that they are modules, as the browser's script tag does
process.once("exit", () => rmSync(COPY, { recursive: true }));
cpSync(STATIC, COPY, { recursive: true });
writeFileSync(join(COPY, "package.json"), '{"type": "module"}');

export const load = (name) => import(pathToFileURL(join(COPY, name)));

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

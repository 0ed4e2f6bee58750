// A caller over AudioSocket by somebody else's library, asterisk-audiosocket: node audiosocket_caller.mjs PORT UUID
// It asks (something loud), waits for the answer, speaks into it, and hangs up; it prints what it heard as JSON.
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { AudioSocketConnection, FrameType, encodeFrame, encodeHangup } from "asterisk-audiosocket";

const [port, uuid] = [Number(process.argv[2]), process.argv[3]];
const socket = net.connect(port, "127.0.0.1");
const call = new AudioSocketConnection(socket);
let frames = 0;
let latest = 0;
call.on("audio", () => {
  frames += 1;
  latest = performance.now();
});
socket.write(encodeFrame(FrameType.UUID, Buffer.from(uuid.replaceAll("-", ""), "hex")));

/** @param {number} seconds @param {number} level */
function sound(seconds, level) {
  const pcm = Buffer.alloc(Math.round(seconds * 8000) * 2);
  for (let at = 0; at < pcm.length / 2; at++)
    pcm.writeInt16LE(Math.round(level * Math.sin((2 * Math.PI * 200 * at) / 8000)), at * 2);
  return pcm;
}

/** @param {() => boolean} done */
async function silentUntil(done) {
  const end = performance.now() + 30_000;
  while (!done() && performance.now() < end) await call.play(sound(0.2, 0));
}

await call.play(sound(1, 9000));
await silentUntil(() => frames > 25);
const before = frames;
const loud = performance.now();
await call.play(sound(0.8, 9000));
const stop_ms = latest - loud;
const silent_ms = performance.now() - latest;
await silentUntil(() => frames > before + 50);
const answered = frames > before + 50;
socket.write(encodeHangup());
await sleep(500);
console.log(JSON.stringify({ before, stop_ms, silent_ms, answered, closed: socket.readableEnded || socket.destroyed }));
socket.destroy();
process.exit(0);

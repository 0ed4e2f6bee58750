// What the page says of the state of a talk. Pure.

import { OUTPUT_RATE } from "./loudspeaker.js";
import { FRAME_S } from "./microphone.js";
import { say } from "./words.js";

export function moodOf({ phase, server, conversation, microphone }) {
  switch (phase) {
    case "live":
      return conversation.mood === "listening" && !microphone ? "typing" : conversation.mood;
    case "waiting":
    case "idle":
      if (server === null) return "unreachable";
      if (server?.loading?.error) return "broken";
      if (server?.ready === false) return "loading";
      return phase === "idle" ? "idle" : "connecting";
    default:
      return phase;
  }
}

export function buttonOf({ phase, microphone }) {
  if (phase === "lost") return "Reconnect";
  return phase === "idle" || (phase === "live" && !microphone) ? "Start" : "Stop";
}

export function hintOf({ phase, server, place, notice, conversation }, mood) {
  if (mood === "broken") return server.loading.error;
  if (mood === "loading" && server.loading?.phase) return server.loading.phase;
  if (mood === "queued") return say("hint.queued", place);
  if (phase === "live" && notice) return say("hint.draining", notice);
  if (mood === "speaking" && conversation.bargeIn === "off") return say("hint.speaking.off");
  return say(`hint.${mood}`);
}

/** What was lost of the sound, on both ways. */
export function soundNumbers({ sound: { underruns, dropped }, line }) {
  const unsent = line?.droppedFrames ?? 0;
  const parts = [];
  if (underruns > 0) parts.push(say("sound.gaps", { count: underruns }));
  if (dropped > 0) parts.push(say("sound.lost", { seconds: (dropped / OUTPUT_RATE).toFixed(1) }));
  if (unsent > 0) parts.push(say("sound.unsent", { seconds: (unsent * FRAME_S).toFixed(1) }));
  return parts.join(" · ");
}

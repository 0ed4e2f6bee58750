// The WebSocket: OpenAI Realtime events as JSON text, microphone audio as binary frames.

import { INPUT_RATE, OUTPUT_RATE } from "./audio.js";
import { Problem } from "./problem.js";

const FULL = 2 * (2 * INPUT_RATE); // 2 s in bytes; microphone frames beyond it are dropped, control never is
const GONE_MS = 10000; // a backlog that stays full this long means the network is gone, whatever the socket says

/** One connection, that is, one session. `onLost(Problem)` is called once, unless `close` came first. */
export class Realtime {
  constructor(url, { onOpen, onEvent, onLost }) {
    this.onLost = onLost;
    this.fullSince = null;
    this.droppedFrames = 0;
    this.eventCount = 0;
    this.created = false;
    this.refusal = null; // an error before the session exists says why there will be none
    this.socket = new WebSocket(url, subprotocols());
    this.socket.onopen = () => {
      this.configure();
      onOpen();
    };
    this.socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "error" && !this.created) this.refusal = event.error.message;
      this.created ||= event.type === "session.created";
      onEvent(event);
    };
    this.socket.onclose = ({ code, reason }) => this.lose(farewell(code, this.refusal ?? reason));
  }

  get open() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  configure() {
    const input = { format: { type: "audio/pcm", rate: INPUT_RATE } };
    const output = { format: { type: "audio/pcm", rate: OUTPUT_RATE } };
    this.send({ type: "session.update", session: { type: "realtime", audio: { input, output } } });
  }

  /** Send one control event; returns the id an `error` event would name. */
  send(event) {
    const event_id = `page_${++this.eventCount}`;
    this.socket.send(JSON.stringify({ ...event, event_id }));
    return event_id;
  }

  sendAudio(pcm) {
    if (!this.open) return;
    if (this.socket.bufferedAmount < FULL) {
      this.fullSince = null;
      this.socket.send(pcm);
      return;
    }
    this.droppedFrames++;
    this.fullSince ??= performance.now();
    if (performance.now() - this.fullSince > GONE_MS) this.lose(farewell(1006, ""));
  }

  ask(text) {
    const content = [{ type: "input_text", text }];
    this.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
    return this.send({ type: "response.create" });
  }

  stopReply() {
    this.send({ type: "response.cancel" });
  }

  close() {
    this.onLost = null;
    this.socket.close();
  }

  lose(problem) {
    const { onLost } = this;
    this.close();
    onLost?.(problem);
  }
}

/** `https://…/#key=sk-…` brings the API key along: browsers send what is behind the # to nobody. */
function subprotocols() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  return key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"];
}

/** Where the session's WebSocket is, also behind a proxy that serves the page under a path. */
export function realtimeUrl() {
  const url = new URL("v1/realtime?vita_events=true", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/** `{ready, parts, loading}` as the server says it; null when it does not answer. */
export async function readiness(signal) {
  try {
    const answer = await fetch(new URL("ready", document.baseURI), { cache: "no-store", signal });
    return await answer.json();
  } catch {
    return null;
  }
}

function farewell(code, reason) {
  if (code === 1001 || code === 1012) return new Problem("The server was shut down.", reason);
  if (code === 1013) return new Problem("The server has no place for this conversation now.", reason);
  if (code === 1008) return new Problem("The server refused the connection.", reason);
  if (code === 1011) return new Problem("The server had an error and closed the connection.", reason);
  return new Problem("The connection to the server was lost.", reason || "The server or the network is gone.");
}

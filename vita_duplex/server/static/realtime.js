// A session over WebSockets: OpenAI Realtime events as JSON text, audio as binary frames both ways.

import { Problem } from "./problem.js";

const FULL = 64000; // bytes, 2 s of microphone; frames beyond it are dropped, control never is
const DIAL_MS = 4000; // a handshake that takes longer will not come
const BEAT_MS = 5000; // between heartbeats; the server takes 15 s without anything for a lost connection
const DEAF_MS = 9000; // and so do we when no answer to one comes: a network that is gone closes no socket
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 2000;
const ABILITIES = "vita_events=true&pauses=true&queue=true&binary_audio=true&resume=true";
const REPLACED = 4001; // close code of the protocol

/**
 * One session; it outlives its connections. Its owner calls `beat` every second. Of its callbacks, `onCreated(event)`
 * comes once, then any number of `onBroken()` with `onBack(seconds)`, and `onLost(Problem, {again, after_s})` at most
 * once, at the end, unless `close` came first. `again`: whether a new session may do better.
 */
export class Line {
  constructor({ onCreated, onEvent, onBroken, onBack, onLost }) {
    this.onCreated = onCreated;
    this.onEvent = onEvent;
    this.onBroken = onBroken;
    this.onBack = onBack;
    this.onLost = onLost;
    this.token = null; // to come back with
    this.patience = 0; // ms that the server waits for us
    this.lastEvent = 0; // number of the newest event that arrived
    this.brokenSince = null;
    this.hopeUntil = 0; // while it is broken
    this.retries = 0;
    this.beatAt = 0;
    this.droppedFrames = 0;
    this.eventCount = 0;
    this.over = false;
    this.wake = () => this.hurry();
    addEventListener("online", this.wake);
    this.dial();
  }

  get open() {
    return this.brokenSince === null && this.socket.readyState === WebSocket.OPEN;
  }

  /** Bytes that wait for the network. */
  get backlog() {
    return this.socket.bufferedAmount;
  }

  // ---- out

  /** Send one control event; returns the id an `error` event would name. */
  send(event) {
    const event_id = `page_${++this.eventCount}`;
    if (this.open) this.socket.send(JSON.stringify({ ...event, event_id }));
    return event_id;
  }

  sendAudio(pcm) {
    if (!this.open) return;
    if (this.socket.bufferedAmount < FULL) this.socket.send(pcm);
    else this.droppedFrames++;
  }

  /** Show the server that we are there, and see that it is. After a sleep of the computer it is not. */
  beat() {
    if (this.token === null || !this.open) return;
    const now = Date.now();
    if (now - this.heardAt > DEAF_MS) {
      this.abandon();
    } else if (now - this.beatAt >= BEAT_MS) {
      this.beatAt = now;
      this.send({ type: "session.heartbeat" });
    }
  }

  // ---- connections

  dial() {
    this.refusal = null; // an error before the session exists says why there will be none
    this.lastError = "";
    this.heardAt = Date.now(); // performance.now() may stand still while the computer sleeps
    const socket = (this.socket = new WebSocket(realtimeUrl(this.token, this.lastEvent), subprotocols()));
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ code, reason }) => this.closed(code, reason);
    socket.onopen = () => clearTimeout(this.timer);
    this.timer = setTimeout(() => this.abandon(), DIAL_MS);
  }

  /** Leave a socket that does not say anything any more. */
  abandon() {
    this.hangUp();
    this.closed(1006, "");
  }

  hangUp() {
    clearTimeout(this.timer);
    this.socket.onmessage = this.socket.onclose = this.socket.onopen = null;
    this.socket.close();
  }

  receive(data) {
    this.heardAt = Date.now();
    const event = typeof data === "string" ? JSON.parse(data) : audioEvent(data);
    this.lastEvent = numberOf(event) ?? this.lastEvent;
    if (event.type === "session.created") this.created(event);
    else if (event.type === "session.resumed") this.resumed(event);
    if (event.type === "error") this.lastError = event.error.message;
    if (event.type === "error" && (this.token === null || this.brokenSince !== null)) this.refusal = event.error;
    this.onEvent(event);
  }

  created(event) {
    this.token = event.resume_token ?? null;
    this.patience = 1000 * (event.resume_s ?? 0);
    this.onCreated(event);
  }

  resumed(event) {
    this.token = event.resume_token ?? this.token;
    const seconds = (Date.now() - this.brokenSince) / 1000;
    this.brokenSince = null;
    this.retries = 0;
    this.onBack(seconds);
  }

  closed(code, reason) {
    clearTimeout(this.timer);
    if (this.refusal) this.lose(...this.refused());
    else if (FAREWELLS[code]) this.lose(farewell(code, reason, this.lastError), FAREWELLS[code]);
    else if (this.token !== null) this.retry();
    else this.unanswered();
  }

  retry() {
    const now = Date.now();
    if (this.brokenSince === null) {
      this.brokenSince = now - this.heardAt > DEAF_MS ? this.heardAt : now;
      this.hopeUntil = now + this.patience; // the server noticed no earlier than we did
      this.onBroken();
    }
    if (now > this.hopeUntil) {
      this.lose(new Problem("lost"), { again: true });
      return;
    }
    this.pause = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.retries++);
    this.timer = setTimeout(() => this.dial(), this.pause);
  }

  /** The network is back: do not wait for the next try. */
  hurry() {
    if (this.brokenSince === null || this.socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.timer);
    this.dial();
  }

  refused() {
    const { code, message, retry_after_s } = this.refusal;
    if (code === "session_not_found" || code === "resume_gap") {
      const early = Date.now() - this.brokenSince < this.patience;
      const restarted = code === "session_not_found" && early; // it would have waited for us
      return [new Problem(restarted ? "restarted" : "expired"), { again: true, at_once: true }];
    }
    if (retry_after_s != null) {
      const seconds = Math.ceil(retry_after_s);
      return [new Problem("full", "", { seconds }), { again: true, after_s: seconds }];
    }
    return [new Problem("refused", message), { again: code === "server_loading" || code === "server_draining" }];
  }

  /** Browsers do not tell why a handshake failed: the server may be gone, or want a key. */
  async unanswered() {
    const server = await readiness();
    this.lose(new Problem(server === null ? "lost" : "unanswered"), { again: !server?.ready });
  }

  // ---- the end

  close() {
    this.over = true;
    removeEventListener("online", this.wake);
    this.hangUp();
  }

  /** To the server this is a good-bye: it does not wait for us. */
  leave() {
    this.over = true;
    removeEventListener("online", this.wake);
    clearTimeout(this.timer);
    this.socket.onmessage = this.socket.onclose = this.socket.onopen = null;
    this.socket.close(1000);
  }

  lose(problem, what) {
    if (this.over) return;
    this.close();
    this.onLost(problem, what);
  }
}

/** What the close codes say that end a session; all others break only a connection. */
const FAREWELLS = {
  1000: { key: "ended", again: false }, // idle, or its time is over
  1008: { key: "refused", again: false },
  1011: { key: "failed", again: true },
  1012: { key: "restarted", again: true },
  1013: { key: "full", again: true, after_s: 5 },
  [REPLACED]: { key: "replaced", again: false },
};

/** In the server's words where it says a sentence: reasons of the other codes are names. */
function farewell(code, reason, lastError) {
  const { key, after_s: seconds } = FAREWELLS[code];
  return new Problem(key, { 1000: lastError, 1008: reason }[code] ?? "", { seconds });
}

/** A binary frame: the numbers of the response and of the event, then PCM16, all little-endian. */
export function audioEvent(data) {
  const header = new DataView(data, 0, 8);
  const pcm = new Int16Array(data.slice(8)); // browsers run on little-endian machines
  const [response, event] = [header.getUint32(0, true), header.getUint32(4, true)];
  return { type: "response.output_audio.delta", response_id: `resp_${response}`, event_id: `event_${event}`, pcm };
}

function numberOf({ event_id }) {
  return event_id?.startsWith("event_") ? Number(event_id.slice("event_".length)) : null;
}

/** `https://…/#key=sk-…` brings the API key along: browsers send what is behind the # to nobody. */
export function apiKey() {
  return new URLSearchParams(location.hash.slice(1)).get("key");
}

/** Headers of a request to the server. */
export function authorization() {
  const key = apiKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function subprotocols() {
  const key = apiKey();
  return key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"];
}

/** Where the session's WebSocket is, also behind a proxy that serves the page under a path. */
function realtimeUrl(token, lastEvent) {
  const url = new URL(`v1/realtime?${ABILITIES}`, document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (token !== null) {
    url.searchParams.set("resume_token", token);
    url.searchParams.set("last_event_id", `event_${lastEvent}`);
  }
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

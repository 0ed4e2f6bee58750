// What the server's events mean: what is on screen, and what the loudspeaker has to do. No DOM, no socket, no audio.

const REMEMBERED = 200; // entries; older ones leave the screen

/**
 * Entries, oldest first, are one of
 *   {kind: "utterance", id, item, text, state, p1, reason}     accepted, spoken or typed
 *   {kind: "overheard", id, state, p1, reason}                 judged not to be a query: never any words
 *   {kind: "reply", id, response, text, status, heard, timeline}   status: "in_progress", "completed", "cancelled" …
 *   {kind: "mark", id, text}
 */
export class Conversation {
  constructor() {
    this.entries = [];
    this.count = 0;
    this.begin();
  }

  /** A new session: what was said stays readable, everything that was going on is over. */
  begin() {
    if (this.entries.length > 0) this.add({ kind: "mark", text: "new conversation" });
    this.roles = null;
    this.voice = false; // somebody speaks right now
    this.utterance = false; // between speech_started and speech_stopped
    this.judging = false; // an utterance has ended and has no verdict yet
    this.reply = null; // the one that is being made or still being heard
    this.replies = new Map();
  }

  end() {
    for (const reply of this.replies.values()) {
      if (reply.status === "in_progress") reply.status = "cancelled";
    }
    this.voice = this.utterance = this.judging = false;
    this.reply = null;
  }

  /** One word for what is going on: listening, hearing, thinking, speaking or held. */
  get mood() {
    if (this.reply?.held) return "held";
    if (this.reply?.audible) return "speaking";
    if (this.utterance) return "hearing";
    if (this.judging || this.reply) return "thinking";
    return "listening";
  }

  /** Take one event of the server; returns the commands for the loudspeaker. */
  receive(event) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        this.utterance = true;
        return [];
      case "input_audio_buffer.speech_stopped":
        this.utterance = false;
        this.judging = !this.entryOf(event.item_id)?.state; // during a reply the verdict may come first
        return [];
      case "conversation.item.added":
        return this.itemAdded(event.item);
      case "conversation.item.input_audio_transcription.completed":
        this.utteranceOf(event.item_id).text = event.transcript;
        return [];
      case "response.created":
        return this.replyBegins(event.response.id);
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        return this.replyText(event.response_id, event.delta);
      case "response.output_audio.delta":
        return this.replyAudio(event.response_id, event.delta);
      case "response.output_audio.done":
        return event.response_id === this.reply?.response ? [{ do: "end" }] : [];
      case "response.done":
        return this.replyEnds(event.response);
      case "vita.speech":
        this.voice = event.speaking;
        return [];
      case "vita.hold":
        return this.hold(event.response_id, true);
      case "vita.resume":
        return this.hold(event.response_id, false);
      case "vita.verdict":
        return this.judged(event);
      case "vita.roles":
        this.roles = { generator: event.generator, monitor: event.monitor, swaps: event.swaps };
        return [];
      case "vita.timeline":
        return this.timed(event.record);
      default:
        return []; // the protocol may grow
    }
  }

  itemAdded(item) {
    if (item.role !== "user") return [];
    const typed = item.content?.find((part) => part.type === "input_text");
    const entry = this.utteranceOf(item.id);
    if (typed) Object.assign(entry, { text: typed.text, state: "<3>" });
    return [];
  }

  judged({ item_id, state, p1, accepted, reason, transcript }) {
    this.judging = false;
    if (!accepted) {
      this.add({ kind: "overheard", state, p1, reason });
      return [];
    }
    const entry = this.utteranceOf(item_id);
    Object.assign(entry, { state, p1, reason, text: transcript ?? entry.text });
    return [];
  }

  replyBegins(response) {
    this.judging = false;
    const silent = { audible: false, held: false, queued: false, heard: 0 };
    this.reply = this.add({ kind: "reply", response, text: "", status: "in_progress", ...silent });
    this.replies.set(response, this.reply);
    return [];
  }

  replyText(response, delta) {
    const reply = this.replies.get(response);
    if (reply?.status === "in_progress") reply.text += delta;
    return [];
  }

  replyAudio(response, delta) {
    const reply = this.replies.get(response);
    if (reply?.status !== "in_progress") return []; // from a reply that was cut
    reply.queued = true;
    return [{ do: "push", response, pcm: pcm16(delta) }];
  }

  replyEnds({ id, status }) {
    const reply = this.replies.get(id);
    if (reply?.status !== "in_progress") return [];
    reply.status = status;
    if (status === "completed") {
      if (!reply.queued) this.leave(reply); // an answer without sound, or one that was heard to its end
      return [{ do: "end" }];
    }
    this.leave(reply);
    return [{ do: "flush" }];
  }

  hold(response, held) {
    if (response !== this.reply?.response) return [];
    this.reply.held = held;
    return [{ do: held ? "hold" : "resume", response }];
  }

  leave(reply) {
    reply.audible = reply.held = false;
    if (reply === this.reply) this.reply = null;
  }

  /** A report of the playback worklet: what is really heard. */
  played({ why, response, played }) {
    const reply = this.replies.get(response);
    if (!reply) return;
    reply.heard = played;
    if (why === "started") reply.audible = true;
    if (why !== "drained") return;
    reply.audible = reply.queued = false;
    if (reply.status !== "in_progress") this.leave(reply);
  }

  timed(record) {
    const reply = this.replies.get(record.response_id);
    if (reply) reply.timeline = record;
    return [];
  }

  entryOf(item) {
    return item == null ? undefined : this.entries.findLast((entry) => entry.item === item);
  }

  utteranceOf(item) {
    return this.entryOf(item) ?? this.add({ kind: "utterance", item, text: null, state: null });
  }

  add(entry) {
    const added = { id: ++this.count, ...entry };
    this.entries.push(added);
    if (this.entries.length > REMEMBERED) this.replies.delete(this.entries.shift().response);
    return added;
  }
}

/** Base64 of little-endian PCM16, as every machine that runs a browser stores it. */
function pcm16(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length & ~1);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return new Int16Array(bytes.buffer);
}

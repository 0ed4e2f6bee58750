// What the server's events mean: what is on screen, and what the loudspeaker has to do. No DOM, no socket, no audio.

const REMEMBERED = 200; // entries; older ones leave the screen

/**
 * Entries, oldest first, are one of
 *   {kind: "utterance", id, item, text, state, p1, pictures}       accepted, spoken or typed
 *   {kind: "overheard", id, state, p1, reason}                     judged not to be a query: never any words
 *   {kind: "reply", id, response, item, instance, text, unheard, status, heard, timeline}
 *   {kind: "mark", id, key, values}                                words of the page
 * with `status` as in `response.done`, or "in_progress".
 */
export class Conversation {
  constructor() {
    this.entries = [];
    this.count = 0;
    this.begin();
  }

  /** A new session: what was said stays readable, everything that was going on is over. */
  begin() {
    if (this.entries.length > 0) this.add({ kind: "mark", key: "talk.new" });
    this.roles = null;
    this.bargeIn = null; // what becomes of speech during a reply: "hold", "verdict" or "off"
    this.voice = false; // somebody speaks right now
    this.judging = false; // an utterance has ended and has no verdict yet
    this.accepted = null; // the verdict whose utterances are arriving
    this.reply = null; // the one that is being made or still being heard
    this.replies = new Map();
  }

  end() {
    for (const reply of this.replies.values()) {
      if (reply.status === "in_progress") reply.status = "cancelled";
    }
    this.voice = this.judging = false;
    this.reply = null;
  }

  /** One word for what is going on: listening, hearing, thinking, speaking or held. */
  get mood() {
    if (this.reply?.held) return "held";
    if (this.reply?.audible) return "speaking";
    if (this.voice) return "hearing";
    if (this.judging || this.reply) return "thinking";
    return "listening";
  }

  /** Take one event of the server; returns the commands for the loudspeaker. */
  receive(event) {
    switch (event.type) {
      case "session.created":
      case "session.updated":
        this.bargeIn = event.session.vita?.barge_in ?? null;
        return [];
      case "conversation.item.added":
        return this.itemAdded(event.item);
      case "conversation.item.input_audio_transcription.completed":
        return this.transcribed(event);
      case "response.created":
        return this.replyBegins(event.response);
      case "response.output_item.added":
        return this.replyItem(event);
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        return this.replyText(event.response_id, event.delta);
      case "vita.heard":
        return this.replyTextIs(event.response_id, event.transcript);
      case "response.output_audio.delta":
        return this.replyAudio(event.response_id, event.pcm);
      case "response.output_audio.done":
        return event.response_id === this.reply?.response ? [{ do: "end" }] : [];
      case "response.done":
        return this.replyEnds(event.response);
      case "vita.speech":
        this.judging ||= this.voice && !event.speaking && !this.reply;
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

  /** A message of pictures alone, a camera's, is seen and not said. */
  itemAdded(item) {
    if (item.role !== "user") return [];
    const part = item.content?.find(({ type }) => type !== "input_image");
    if (!part) return [];
    const text = part.text ?? part.transcript ?? null;
    this.add({ kind: "utterance", item: item.id, text, ...this.accepted });
    return [];
  }

  transcribed({ item_id, transcript }) {
    const entry = this.entries.findLast((one) => one.item === item_id);
    if (entry) entry.text = transcript;
    return [];
  }

  /** Spoken utterances enter the conversation after their verdict, typed ones before it. */
  judged({ state, p1, reason, accepted, utterances }) {
    this.judging = false;
    const correction = this.correction(state, accepted, utterances?.at(-1));
    if (!accepted) {
      this.add({ kind: "overheard", state, p1, reason, ...correction });
      return [];
    }
    this.accepted = { state, p1, ...correction };
    for (const entry of this.entries) {
      if (entry.kind === "utterance" && !entry.state) Object.assign(entry, this.accepted);
    }
    return [];
  }

  /** What says that a verdict was wrong: of the last utterance that was left alone, and of the last that was answered. */
  correction(state, accepted, utterance) {
    if (utterance == null || state === "<3>") return {};
    const type = `vita.utterance.${accepted ? "reject" : "accept"}`;
    for (const entry of this.entries) if (entry.correct?.type === type) delete entry.correct;
    return { correct: { type, utterance } };
  }

  takeCorrection(entry) {
    const event = entry.correct;
    delete entry.correct;
    return event;
  }

  replyBegins({ id: response }) {
    this.judging = false;
    this.accepted = null;
    const silent = { audible: false, held: false, queued: false, heard: 0 };
    const instance = this.roles?.generator;
    this.reply = this.add({ kind: "reply", response, instance, text: "", status: "in_progress", ...silent });
    this.replies.set(response, this.reply);
    return [];
  }

  replyItem({ response_id, item }) {
    const reply = this.replies.get(response_id);
    if (reply) reply.item = item.id;
    return [];
  }

  replyText(response, delta) {
    const reply = this.replies.get(response);
    if (reply?.status === "in_progress") reply.text += delta;
    return [];
  }

  /** A reply was cut: this was heard of it, and the rest was not. */
  replyTextIs(response, transcript) {
    const reply = this.replies.get(response);
    if (reply?.status !== "in_progress") return [];
    reply.unheard = reply.text.startsWith(transcript) ? reply.text.slice(transcript.length) : "";
    reply.text = transcript;
    return [];
  }

  replyAudio(response, pcm) {
    const reply = this.replies.get(response);
    if (reply?.status !== "in_progress") return []; // from a reply that was cut
    reply.queued = true;
    return [{ do: "push", response, pcm }];
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

  /** A report of the playback worklet: what is really heard. Returns the item it belongs to, if any. */
  played({ why, response, played }) {
    const reply = this.replies.get(response);
    if (!reply) return null;
    reply.heard = played;
    if (why === "started") reply.audible = true;
    if (why === "drained") {
      reply.queued = false;
      if (reply.status !== "in_progress") this.leave(reply);
    }
    return reply.item;
  }

  /** A picture the person sent with words; the server does not send it back. */
  showPictures(item, pictures) {
    const entry = this.entries.findLast((one) => one.item === item);
    if (entry) entry.pictures = pictures;
  }

  timed(record) {
    const reply = this.replies.get(record.response_id);
    if (reply) reply.timeline = record;
    return [];
  }

  add(entry) {
    const added = { id: ++this.count, ...entry };
    this.entries.push(added);
    if (this.entries.length > REMEMBERED) this.replies.delete(this.entries.shift().response);
    return added;
  }
}

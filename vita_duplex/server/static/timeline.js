// What happened when, for the whole conversation. No DOM; time is an argument, in seconds since the page's first session.

export const LEVEL_STEP = 0.1; // seconds of microphone in one level
const LEVELS_KEPT = 36000; // an hour; older ones go
const SPANS_KEPT = 2000; // of each kind; an hour of lively talk

export class Timeline {
  constructor() {
    this.levels = []; // loudest in each step, 0 to 1
    this.levelsFrom = 0; // steps that are not kept any more
    this.speech = []; // {from, to}: the detector's; `to` is null while it lasts
    this.verdicts = []; // {at, state, p1, accepted, reason}
    this.roles = []; // {from, generator, monitor}
    this.replies = []; // {response, instance, at, status, generated, sent: {from, to}, heard: [{from, to}], held, record}
    this.sessions = []; // when each began
    this.current = new Map(); // replies of this session by id; a new session counts from 1 again
    this.offset = Infinity; // from the server's clock to this one: the smallest delay that was seen
  }

  begin(now) {
    this.current = new Map();
    this.offset = Infinity;
    for (const span of this.speech) span.to ??= now;
    this.sessions.push(now);
  }

  level(value, now) {
    const step = Math.floor(now / LEVEL_STEP) - this.levelsFrom;
    while (this.levels.length <= step) this.levels.push(0);
    this.levels[step] = Math.max(this.levels[step], value);
    while (this.levels.length > LEVELS_KEPT) {
      this.levels.shift();
      this.levelsFrom++;
    }
  }

  /** An event of the server. */
  note(event, now) {
    switch (event.type) {
      case "vita.speech":
        if (event.speaking) keep(this.speech, { from: now, to: null });
        else if (this.speech.length > 0) this.speech.at(-1).to ??= now;
        break;
      case "vita.verdict":
        keep(this.verdicts, { at: now, state: event.state, p1: event.p1, accepted: event.accepted, reason: event.reason });
        break;
      case "vita.roles":
        keep(this.roles, { from: now, generator: event.generator, monitor: event.monitor });
        break;
      case "response.created":
        this.replyBegins(event.response.id, now);
        break;
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        this.extend(event.response_id, "generated", now);
        break;
      case "response.output_audio.delta":
        this.extend(event.response_id, "sent", now);
        break;
      case "response.done":
        this.replyEnds(event.response, now);
        break;
      case "vita.timeline":
        this.recorded(event.record, now);
    }
  }

  replyBegins(response, now) {
    const instance = this.roles.at(-1)?.generator ?? null;
    const reply = { response, instance, at: now, status: "in_progress", generated: null, sent: null, heard: [], record: null };
    keep(this.replies, reply);
    this.current.set(response, reply);
  }

  extend(response, what, now) {
    const reply = this.current.get(response);
    if (!reply) return;
    reply[what] ??= { from: now, to: now };
    reply[what].to = now;
  }

  replyEnds({ id, status }, now) {
    const reply = this.current.get(id);
    if (!reply) return;
    reply.status = status;
    if (status !== "completed") stop(reply.heard, now);
  }

  /** The server's own moments are exacter than their arrival here. */
  recorded(record, now) {
    this.offset = Math.min(this.offset, now - (record.finished ?? record.begun));
    const reply = this.current.get(record.response_id);
    if (!reply) return;
    reply.record = record;
    const [first, last] = [record.first_token, record.generated ?? record.aborted ?? record.finished];
    if (first != null && last != null) reply.generated = { from: first + this.offset, to: last + this.offset };
    reply.asked = (record.speech_end ?? record.begun) + this.offset;
    reply.latency = record.first_audio_sent == null ? null : record.first_audio_sent + this.offset - reply.asked;
  }

  /** A report of the playback worklet. */
  played({ why, response }, now) {
    const reply = this.current.get(response);
    if (!reply) return;
    if (why === "started" || why === "resumed") {
      stop(reply.heard, now);
      if (why === "started" || reply.heard.length > 0) reply.heard.push({ from: now, to: null });
    } else if (why !== "playing") {
      stop(reply.heard, now);
    } else if (reply.heard.at(-1)?.to !== null) {
      reply.heard.push({ from: now, to: null }); // after a gap
    }
  }

  /** Everything but words and sound. */
  log(began) {
    const { levels, levelsFrom, speech, verdicts, roles, sessions } = this;
    const replies = this.replies.map(({ asked, latency, ...reply }) => ({ ...reply, latency: latency ?? null }));
    const level = { from: levelsFrom * LEVEL_STEP, step: LEVEL_STEP, values: levels.map((one) => Math.round(one * 100) / 100) };
    return { began: began.toISOString(), unit: "seconds", sessions, level, speech, verdicts, roles, replies };
  }
}

function stop(spans, now) {
  const last = spans.at(-1);
  if (last && last.to === null) last.to = now;
}

function keep(list, one) {
  list.push(one);
  if (list.length > SPANS_KEPT) list.shift();
}

// A ring of samples between the socket and the loudspeaker that can fall silent at once.
//
// in:  {do: "push", response, pcm: Int16Array} · {do: "end"} · {do: "hold" | "resume", response} · {do: "flush"}
// out: {why, response, played, buffered, underruns, dropped}; `played` counts the samples of `response`

const RATE = 24000;
const CAPACITY = 30 * RATE; // the server keeps 0.2 s ahead; a server that does not pace fills this, the rest is dropped
const MS = RATE / 1000;
const FIRST_LEAD = 80 * MS; // wait for this much before playing, against network jitter; comes in one burst
const LEAD_STEP = 40 * MS; // and this much more after each gap
const MOST_LEAD = 160 * MS; // stays below what the server sends ahead
const TAPER = 32; // samples (1.3 ms) in which a cut falls to zero instead of clicking
const REPORT_EVERY = 20; // render quanta, about 107 ms

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Float32Array(CAPACITY);
    this.written = 0; // both count for ever; the place in the ring is the count modulo its length
    this.read = 0;
    this.marks = []; // {response, start}: where each response begins, in the same count; first the one being played
    this.flowing = false; // enough was buffered, samples go out
    this.ended = false; // no more is to come, so nothing is to be waited for
    this.dry = false; // the ring ran empty; a gap if more of that response comes, else it was the end
    this.held = null; // this response is silent; named, so that a late hold cannot silence the next one
    this.lead = FIRST_LEAD;
    this.underruns = 0;
    this.dropped = 0;
    this.last = 0; // last sample that went out
    this.quanta = 0;
    this.port.onmessage = ({ data }) => this[data.do](data);
  }

  get buffered() {
    return this.written - this.read;
  }

  push({ response, pcm }) {
    if (pcm.length === 0) return;
    if (this.marks.at(-1)?.response !== response) this.marks.push({ response, start: this.written });
    else if (this.dry) this.gap();
    this.dry = false;
    const fits = Math.min(pcm.length, CAPACITY - this.buffered);
    for (let i = 0; i < fits; i++) this.ring[this.written++ % CAPACITY] = pcm[i] / 32768;
    this.dropped += pcm.length - fits;
    this.ended = false;
  }

  end() {
    this.ended = true;
    if (this.dry) this.drain();
  }

  hold({ response }) {
    this.held = response;
    this.report("held");
  }

  resume({ response }) {
    if (this.held !== response) return;
    this.held = null;
    this.report("resumed");
  }

  flush() {
    this.report("flushed");
    this.read = this.written;
    this.marks = [];
    this.flowing = this.ended = this.dry = false;
    this.held = null;
  }

  process(_, [[out]]) {
    const n = this.take(out);
    if (n < out.length) this.fadeOut(out, n);
    else this.last = out[n - 1];
    if (n > 0 && ++this.quanta % REPORT_EVERY === 0) this.report("playing");
    return true;
  }

  /** Copy what may be played now; returns how many samples that was. */
  take(out) {
    if (this.marks[1]?.start === this.read) this.next();
    if (this.held !== null && this.held === this.marks[0]?.response) return 0;
    if (this.buffered === 0) {
      if (this.flowing) this.runDry();
      return 0;
    }
    if (!this.flowing && this.buffered < this.lead && !this.ended) return 0;
    this.flowing = true;
    const end = this.marks[1]?.start ?? this.written;
    const n = Math.min(out.length, end - this.read); // a response ends with a quantum, so each can be held alone
    for (let i = 0; i < n; i++) out[i] = this.ring[this.read++ % CAPACITY];
    if (!this.marks[0].started) this.report("started");
    this.marks[0].started = true;
    return n;
  }

  /** Go on with the next response, without a pause. */
  next() {
    this.report("drained");
    this.marks.shift();
  }

  runDry() {
    this.flowing = false;
    this.dry = true;
    if (this.ended) this.drain();
  }

  drain() {
    this.report("drained");
    this.marks = [];
    this.dry = false;
  }

  gap() {
    this.underruns++;
    this.lead = Math.min(MOST_LEAD, this.lead + LEAD_STEP);
    this.report("underrun");
  }

  /** Fill the rest of `out`: the buffer is untouched, so a hold costs no sample. */
  fadeOut(out, from) {
    const start = from > 0 ? out[from - 1] : this.last;
    for (let i = from; i < out.length; i++) out[i] = start * Math.max(0, 1 - (i - from + 1) / TAPER);
    this.last = out[out.length - 1];
  }

  report(why) {
    const { response = null, start = this.read } = this.marks[0] ?? {};
    const { buffered, underruns, dropped } = this;
    this.port.postMessage({ why, response, played: this.read - start, buffered, underruns, dropped });
  }
}

registerProcessor("playback", Playback);

// Microphone samples at the context's rate in, PCM16 at 16 kHz in frames of 20 ms out.
// Self-contained: not every browser lets a worklet import.

const RATE = 16000;
const FRAME = 320; // 20 ms

const STOPBAND_DB = 80;
const KAISER_BETA = 0.1102 * (STOPBAND_DB - 8.7);

/** Streaming resampler: a windowed sinc, one row of coefficients per fractional position (polyphase). */
class Resampler {
  constructor(from, to) {
    const divisor = greatestCommonDivisor(from, to);
    this.up = to / divisor;
    this.down = from / divisor;
    this.rows = this.up === 1 && this.down === 1 ? [Float32Array.of(1)] : lowPassRows(from, to, this.up);
    this.taps = this.rows[0].length;
    this.window = new Float32Array(0);
    this.at = this.taps - 1; // newest input sample of the next output, counted from the window's start
    this.phase = 0;
  }

  /** Call `emit` with each output sample that `input` completes. */
  push(input, emit) {
    const kept = this.taps - 1;
    if (this.window.length !== kept + input.length) {
      const window = new Float32Array(kept + input.length);
      window.set(this.window.subarray(0, kept));
      this.window = window;
    }
    this.window.set(input, kept);
    while (this.at < this.window.length) {
      const row = this.rows[this.phase];
      let sum = 0;
      for (let k = 0; k < this.taps; k++) sum += row[k] * this.window[this.at - k];
      emit(sum);
      this.phase += this.down;
      this.at += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    this.at -= input.length;
    this.window.copyWithin(0, input.length);
  }
}

/** Low-pass between 90 % of the lower Nyquist frequency and that frequency, so that nothing folds back. */
function lowPassRows(from, to, phases) {
  const nyquist = Math.min(from, to) / 2;
  const transition = (0.1 * nyquist) / from;
  const cutoff = (0.95 * nyquist) / from;
  const half = Math.ceil((STOPBAND_DB - 7.95) / (14.36 * transition) / 2); // Kaiser's length formula
  return Array.from({ length: phases }, (_, phase) => {
    const row = new Float64Array(2 * half);
    for (let k = 0; k < row.length; k++) {
      const distance = k + phase / phases - half;
      row[k] = 2 * cutoff * sinc(2 * cutoff * distance) * kaiser(distance / half);
    }
    const sum = row.reduce((total, value) => total + value, 0);
    return Float32Array.from(row, (value) => value / sum);
  });
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const kaiser = (x) => bessel0(KAISER_BETA * Math.sqrt(Math.max(0, 1 - x * x))) / bessel0(KAISER_BETA);
const greatestCommonDivisor = (a, b) => (b === 0 ? a : greatestCommonDivisor(b, a % b));

function bessel0(x) {
  let sum = 1;
  for (let term = 1, k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
    this.silence = new Float32Array(128);
    this.emit = (sample) => this.append(sample);
  }

  process([[samples]]) {
    // A muted or unplugged microphone delivers no channel. The server counts time in samples,
    // so send silence rather than nothing.
    this.resampler.push(samples ?? this.silence, this.emit);
    return true;
  }

  append(sample) {
    this.frame[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
    if (this.filled < FRAME) return;
    this.port.postMessage(this.frame, [this.frame.buffer]);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
  }
}

registerProcessor("capture", Capture);

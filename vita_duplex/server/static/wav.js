/** A WAV file of 16 bit mono samples, as a data URL. `frames` are Int16Arrays. */
export function wavUrl(frames, rate) {
  const size = frames.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const file = new Uint8Array(44 + size);
  const head = new DataView(file.buffer);
  const write = (at, text) => [...text].forEach((one, i) => head.setUint8(at + i, one.charCodeAt(0)));
  write(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  write(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); // PCM
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  write(36, "data");
  head.setUint32(40, size, true);
  let at = 44;
  for (const frame of frames) {
    file.set(new Uint8Array(frame.buffer, frame.byteOffset, frame.byteLength), at);
    at += frame.byteLength;
  }
  let text = "";
  for (let i = 0; i < file.length; i += 8192) text += String.fromCharCode(...file.subarray(i, i + 8192));
  return `data:audio/wav;base64,${btoa(text)}`;
}

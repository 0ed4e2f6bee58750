// Pictures on their way to the server: made smaller, as data URLs of JPEG.

import { Problem } from "./problem.js";

const QUALITY = 0.85;
const LONGEST = 1344; // three of VITA's tiles of 448 pixels; more costs time and tells it little

/** Width and height of a picture whose longer side is at most `longest`, with the same shape. */
export function within(longest, width, height) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/** A data URL of what a drawable (video, bitmap) shows. */
export function snapshot(source, width, height, longest) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = within(longest, width, height);
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return { url: canvas.toDataURL("image/jpeg", QUALITY), width: canvas.width, height: canvas.height };
}

/** A data URL of a picture file, upright. Rejects with a Problem. */
export async function pictureOf(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const { url } = snapshot(bitmap, bitmap.width, bitmap.height, LONGEST);
    bitmap.close();
    return url;
  } catch {
    throw new Problem("picture");
  }
}

/** The picture files among what was pasted, dropped or chosen. */
export function picturesAmong(files) {
  return [...files].filter(({ type }) => type.startsWith("image/"));
}

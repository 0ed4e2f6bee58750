// What a camera or a screen shows, as pictures at a chosen rate; the newest wins.

import { Problem } from "./problem.js";
import { snapshot } from "./pictures.js";

export class Camera {
  /**
   * `source` is "camera" or "screen"; `settings()` gives {frames, side}. `onPicture({url, width, height})` returns false
   * when the network is behind: that picture is dropped, the next one is a newer one anyway. `onEnded()` when the person
   * or the system took the device away. Rejects with a Problem.
   */
  static async open(source, settings, onPicture, onEnded) {
    let stream;
    try {
      const wanted = { video: true };
      stream = await (source === "screen"
        ? navigator.mediaDevices.getDisplayMedia(wanted)
        : navigator.mediaDevices.getUserMedia(wanted));
    } catch (error) {
      throw new Problem("camera", error.message);
    }
    const camera = new Camera(stream, settings, onPicture);
    stream.getVideoTracks()[0].addEventListener("ended", onEnded);
    await camera.video.play();
    camera.take();
    return camera;
  }

  constructor(stream, settings, onPicture) {
    this.stream = stream;
    this.settings = settings;
    this.onPicture = onPicture;
    this.sent = 0;
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.video.srcObject = stream;
  }

  take() {
    const { frames, side } = this.settings();
    const { videoWidth: width, videoHeight: height } = this.video;
    if (width > 0 && this.onPicture(snapshot(this.video, width, height, side))) this.sent++;
    this.timer = setTimeout(() => this.take(), 1000 / frames);
  }

  close() {
    clearTimeout(this.timer);
    for (const track of this.stream.getTracks()) track.stop();
    this.video.srcObject = null;
  }
}

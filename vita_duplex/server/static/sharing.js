// What the model is shown: pictures that belong to a question, and what the camera or the screen shows.

import { Camera } from "./camera.js";
import { pictureOf } from "./pictures.js";

const BACKLOG = 200000; // bytes waiting for the network; a picture more would only be late
const PICTURES = 8; // in one message, as the server has it

export class Sharing {
  constructor(talk) {
    this.talk = talk;
    this.camera = null;
    this.pictures = []; // data URLs, for the next question
    this.shown = null; // {id, pictures} of the last question with pictures
    this.seen = null; // the item with what the camera saw last
    this.count = 0;
  }

  /** The id and the content of a question with the pictures that wait for it. */
  question(text) {
    const pictures = this.pictures.map((image_url) => ({ type: "input_image", image_url }));
    const id = `typed_${Date.now()}_${++this.count}`;
    this.shown = this.pictures.length > 0 ? { id, pictures: this.pictures } : null;
    this.attach([]);
    return { id, content: [...pictures, ...(text === "" ? [] : [{ type: "input_text", text }])] };
  }

  attach(pictures) {
    this.pictures = pictures;
    this.talk.view.attached(pictures, (gone) => this.attach(this.pictures.filter((one) => one !== gone)));
  }

  async addPictures(files) {
    try {
      const more = await Promise.all(files.map(pictureOf));
      this.attach([...this.pictures, ...more].slice(-PICTURES));
    } catch (error) {
      this.talk.view.problem(error);
    }
  }

  async toggle(source) {
    if (this.camera) {
      this.stop();
      return;
    }
    const { talk } = this;
    if (talk.phase === "idle" || talk.phase === "lost") talk.start(true);
    try {
      this.camera = await Camera.open(source, () => talk.settings, (picture) => this.send(picture), () => this.stop());
    } catch (error) {
      talk.view.problem(error);
    }
    talk.show();
  }

  stop() {
    if (this.seen) this.talk.line?.send({ type: "conversation.item.delete", item_id: this.seen });
    this.seen = null;
    this.close();
    this.talk.show();
  }

  close() {
    this.camera?.close();
    this.camera = null;
    this.talk.view.preview(null);
  }

  /** A new session was shown nothing yet. */
  forget() {
    this.seen = null;
  }

  /** Send what the camera sees in place of what it saw before. */
  send(picture) {
    const { phase, line, view } = this.talk;
    if (phase !== "live" || line.backlog > BACKLOG) return false;
    const id = `seen_${++this.count}`;
    const content = [{ type: "input_image", image_url: picture.url }];
    line.send({ type: "conversation.item.create", item: { type: "message", role: "user", id, content } });
    if (this.seen) line.send({ type: "conversation.item.delete", item_id: this.seen });
    this.seen = id;
    view.preview(picture, (this.camera?.sent ?? 0) + 1);
    return true;
  }
}

// The timeline on the page: what part of it is shown, and how it leaves the page.

import { Picture } from "./timeline_picture.js";
import { say } from "./words.js";

const SPAN = 30; // seconds shown at first
const SHORTEST = 2;
const REDRAW_MS = 250;
const COLOURS = ["ground", "line", "soft", "ink", "first", "second", "calm", "busy", "alarm"]; // of style.css

const at = (id) => document.getElementById(id);

export class TimelineView {
  /** `now()` is the timeline's time. */
  constructor(timeline, now) {
    this.timeline = timeline;
    this.now = now;
    this.began = new Date(Date.now() - 1000 * now());
    this.span = SPAN;
    this.end = null; // where the shown stretch ends; null: now
    this.picture = null;
    this.place = at("timeline");
    this.bind();
    setInterval(() => this.end === null && this.draw(), REDRAW_MS);
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  bind() {
    const place = this.place;
    at("timeline-live").addEventListener("click", () => this.show(this.span, null));
    at("timeline-all").addEventListener("click", () => this.show(Math.max(SHORTEST, this.now()), null));
    at("timeline-in").addEventListener("click", () => this.zoom(0.5));
    at("timeline-out").addEventListener("click", () => this.zoom(2));
    at("timeline-svg").addEventListener("click", () => this.saveSvg());
    at("timeline-json").addEventListener("click", () => this.saveJson());
    place.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    place.addEventListener("keydown", (event) => this.key(event));
    place.addEventListener("pointerdown", (event) => place.setPointerCapture(event.pointerId));
    place.addEventListener("pointermove", (event) => this.point(event));
    place.addEventListener("pointerleave", () => (at("timeline-readout").textContent = ""));
  }

  get to() {
    return this.end ?? Math.max(this.now(), this.span);
  }

  /** `end` null: follow the time. */
  show(span, end) {
    const all = Math.max(this.now(), SPAN);
    this.span = Math.min(Math.max(SHORTEST, span), all);
    this.end = end === null || end >= this.now() ? null : Math.max(this.span, end);
    at("timeline-live").setAttribute("aria-pressed", String(this.end === null));
    this.draw();
  }

  /** Keep the time at `centre` where it is. */
  zoom(factor, centre = this.to) {
    const span = Math.max(SHORTEST, this.span * factor);
    this.show(span, centre + ((this.to - centre) * span) / this.span);
  }

  move(seconds) {
    this.show(this.span, this.to + seconds);
  }

  wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(1.2 ** Math.sign(event.deltaY), this.picture.at(event.offsetX));
    } else if (event.deltaX !== 0) {
      event.preventDefault();
      this.move((event.deltaX / this.place.clientWidth) * this.span);
    }
  }

  key(event) {
    const steps = { ArrowLeft: -this.span / 10, ArrowRight: this.span / 10 };
    if (event.key in steps) this.move(steps[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "End") this.show(this.span, null);
    else return;
    event.preventDefault();
  }

  point(event) {
    if (!this.picture) return;
    const x = event.clientX - this.place.getBoundingClientRect().left;
    if (event.buttons & 1) this.move((-event.movementX / this.place.clientWidth) * this.span);
    const what = event.target.closest?.("rect, g")?.querySelector("title")?.textContent ?? "";
    at("timeline-readout").textContent = [`${Math.max(0, this.picture.at(x)).toFixed(2)} s`, what].filter(Boolean).join(" · ");
  }

  render(style = "") {
    const [to, width] = [this.to, Math.max(280, Math.floor(this.place.clientWidth))];
    this.picture = new Picture(this.timeline, { from: to - this.span, to, now: this.now(), width, say });
    return this.picture.svg(style);
  }

  draw() {
    if (this.place.clientWidth === 0 || document.hidden) return;
    const drawn = new DOMParser().parseFromString(this.render(), "image/svg+xml").documentElement;
    this.place.replaceChildren(document.importNode(drawn, true));
  }

  // ---- out of the page

  /** The whole conversation, a pixel for each 25 ms, but no wider than a wall. */
  saveSvg() {
    const now = Math.max(this.now(), SHORTEST);
    const width = Math.min(20000, Math.max(900, Math.round(now * 40)));
    const picture = new Picture(this.timeline, { from: 0, to: now, now, width, say });
    save("timeline.svg", "image/svg+xml", picture.svg(paints()));
  }

  saveJson() {
    save("timeline.json", "application/json", JSON.stringify(this.timeline.log(this.began), null, 1));
  }
}

/** The rules of timeline.css with the colours of this moment, for a file that has no page around it. */
function paints() {
  const colours = getComputedStyle(document.documentElement);
  const values = COLOURS.map((name) => `--${name}:${colour(colours.getPropertyValue(`--${name}`))}`);
  const sheet = [...document.styleSheets].find(({ href }) => href?.endsWith("timeline.css"));
  const rules = [...sheet.cssRules].filter(({ cssText }) => cssText.startsWith(".t-")).map(({ cssText }) => cssText);
  return `svg{${values.join(";")};font-family:sans-serif}${rules.join("")}`;
}

/** `light-dark(a, b)` as the one that is seen now. */
function colour(value) {
  const probe = document.createElement("i");
  document.body.append(probe);
  probe.style.color = value;
  const seen = getComputedStyle(probe).color;
  probe.remove();
  return seen;
}

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}


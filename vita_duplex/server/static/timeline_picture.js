// A stretch of the timeline as SVG text. Pure.

import { LEVEL_STEP } from "./timeline.js";

const LEFT = 78; // of the names of the rows
const ROWS = { level: [4, 34], speech: [40, 6], verdict: [50, 16], roles: [70, 10], generated: [92, 9], sent: [105, 9], heard: [118, 9] };
const AXIS = 132;
const FONT = 11;
const HEIGHT = 150;

/** Text is set in pixels, so `width` is that of the place where the picture will be. */
export class Picture {
  /** From `from` to `to` in seconds; `now` ends what still lasts. `say` gives the words. */
  constructor(timeline, { from, to, now, width, say }) {
    this.timeline = timeline;
    this.from = from;
    this.to = to;
    this.now = now;
    this.width = width;
    this.say = say;
    this.colours = new Map(); // instance -> 0 or 1
    this.parts = [];
  }

  x(seconds) {
    return LEFT + ((seconds - this.from) / (this.to - this.from)) * (this.width - LEFT - 4);
  }

  /** The time at a place; for hovering and zooming. */
  at(x) {
    return this.from + ((x - LEFT) / (this.width - LEFT - 4)) * (this.to - this.from);
  }

  /** `style` is for a picture that leaves the page. */
  svg(style = "") {
    this.axis();
    this.names();
    this.levels();
    this.bars();
    const label = escaped(this.say("timeline.label"));
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" class="picture" width="${this.width}" height="${HEIGHT}" ` +
      `viewBox="0 0 ${this.width} ${HEIGHT}" role="img" aria-label="${label}" font-size="${FONT}">` +
      `${style && `<style>${style}</style><rect class="t-ground" width="100%" height="100%"/>`}${this.parts.join("")}</svg>`
    );
  }

  // ---- rows

  axis() {
    const step = niceStep((this.to - this.from) / Math.max(2, (this.width - LEFT) / 90));
    for (let t = Math.ceil(this.from / step) * step; t <= this.to; t += step) {
      const x = round(this.x(t));
      this.parts.push(`<path class="t-grid" d="M${x} 2V${AXIS}"/>`);
      this.text(x, AXIS + 13, `${round(t, step < 1 ? 1 : 0)} s`, "t-axis", x > this.width - 24 ? "end" : "middle");
    }
    for (const began of this.timeline.sessions.slice(1)) this.line(began, "t-session");
  }

  names() {
    const names = { level: "you", verdict: "verdict", roles: "roles", generated: "generated", sent: "sent", heard: "heard" };
    for (const [row, key] of Object.entries(names)) {
      const [y, height] = ROWS[row];
      this.text(2, y + height / 2 + 4, this.say(`timeline.${key}`), "t-name", "start");
    }
  }

  levels() {
    const { levels, levelsFrom } = this.timeline;
    const [top, height] = ROWS.level;
    const columns = Math.floor(this.width - LEFT - 4);
    const places = [];
    for (let column = 0; column < columns; column++) {
      const first = Math.floor(this.at(LEFT + column) / LEVEL_STEP) - levelsFrom;
      const last = Math.max(first + 1, Math.floor(this.at(LEFT + column + 1) / LEVEL_STEP) - levelsFrom);
      let loudest = 0;
      for (let i = Math.max(0, first); i < Math.min(last, levels.length); i++) loudest = Math.max(loudest, levels[i]);
      places.push(`${LEFT + column} ${round(top + height * (1 - loudest))}`);
    }
    const bottom = top + height;
    this.parts.push(`<path class="t-level" d="M${LEFT} ${bottom}L${places.join("L")}L${LEFT + columns} ${bottom}Z"/>`);
  }

  bars() {
    const { speech, verdicts, roles, replies } = this.timeline;
    for (const one of speech) this.bar("speech", one, "t-speech", this.say("timeline.speech"));
    roles.forEach((one, i) => {
      const until = { from: one.from, to: roles[i + 1]?.from ?? this.now };
      this.bar("roles", until, `t-instance-${this.colour(one.generator)}`, `${this.say("timeline.roles")}: ${one.generator}`);
    });
    for (const reply of replies) this.reply(reply);
    for (const one of verdicts) this.verdict(one);
  }

  reply(reply) {
    const colour = `t-instance-${this.colour(reply.instance)}`;
    const name = (row) => `${this.say(`timeline.${row}`)}: ${reply.instance ?? ""} ${reply.response}`;
    if (reply.generated) this.bar("generated", reply.generated, colour, name("generated"));
    if (reply.sent) this.bar("sent", reply.sent, colour, name("sent"));
    for (const span of reply.heard) this.bar("heard", span, colour, name("heard"));
    for (const [i, span] of reply.heard.slice(1).entries()) {
      this.bar("heard", { from: reply.heard[i].to, to: span.from }, "t-held", this.say("timeline.held"));
    }
    if (reply.latency != null) this.latency(reply);
  }

  /** From the end of the question to the first sound of its answer. */
  latency({ asked, latency }) {
    if (!this.shows(asked, asked + latency)) return;
    const [y] = ROWS.generated;
    const seconds = latency.toFixed(2);
    const [from, to] = [Math.max(LEFT, this.x(asked)), this.x(asked + latency)];
    this.parts.push(
      `<g><title>${escaped(this.say("timeline.latency", { seconds }))}</title>` +
        `<path class="t-latency" d="M${round(from)} ${y - 4}H${round(to)}m0 -3v6"/></g>`,
    );
    if (to > LEFT) this.text(to + 4, y - 1, `${seconds} s`, "t-note", "start");
  }

  verdict({ at, state, p1, accepted }) {
    if (!this.shows(at, at)) return;
    const [y] = ROWS.verdict;
    const kind = accepted ? "t-yes" : "t-no";
    const title = [state ?? "–", p1 == null ? "" : `p1 ${p1.toFixed(2)}`, `${at.toFixed(2)} s`].filter(Boolean).join(" · ");
    const x = round(this.x(at));
    this.parts.push(
      `<g class="${kind}"><title>${escaped(title)}</title><path d="M${x} ${y - 12}V${AXIS}" class="t-mark"/>` +
        `<text x="${x + 3}" y="${y + 12}">${escaped(state ?? "–")}</text></g>`,
    );
  }

  // ---- shapes

  shows(from, to) {
    return to >= this.from && from <= this.to;
  }

  bar(row, { from, to }, kind, title) {
    const end = to ?? this.now;
    if (!this.shows(from, end)) return;
    const [y, height] = ROWS[row];
    const [left, right] = [Math.max(LEFT, this.x(from)), Math.min(this.width - 4, this.x(end))];
    const when = this.say("timeline.span", { from: from.toFixed(2), to: end.toFixed(2) });
    this.parts.push(
      `<rect class="${kind}" x="${round(left)}" y="${y}" width="${round(Math.max(1, right - left))}" height="${height}" rx="2">` +
        `<title>${escaped(`${title} · ${when}`)}</title></rect>`,
    );
  }

  line(at, kind) {
    if (this.shows(at, at)) this.parts.push(`<path class="${kind}" d="M${round(this.x(at))} 2V${AXIS}"/>`);
  }

  text(x, y, text, kind, anchor) {
    this.parts.push(`<text class="${kind}" x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escaped(text)}</text>`);
  }

  colour(instance) {
    if (!this.colours.has(instance)) this.colours.set(instance, this.colours.size % 2);
    return this.colours.get(instance);
  }
}

const round = (value, digits = 1) => Number(value.toFixed(digits));

const escaped = (text) => text.replace(/[&<>"]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[one]);

/** 1, 2 or 5 times a power of ten, at least `step`. */
function niceStep(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].find((times) => times * power >= step) * power;
}

// Chats in OpenAI's form: what is sent, what streams back. Pure.

export const BODY_LIMIT = 16 * 2 ** 20; // bytes of a request, as the server has it

/** "image", "audio", "video", or null for files that cannot be sent. */
export function kindOf({ type }) {
  const kind = type.split("/")[0];
  return ["image", "audio", "video"].includes(kind) ? kind : null;
}

/** A part of a message. `url` is a data URL. */
export function partOf(kind, url) {
  if (kind === "image") return { type: "image_url", image_url: { url } };
  if (kind === "video") return { type: "video_url", video_url: { url } }; // vLLM's addition to OpenAI's parts
  const [head, data] = url.split(",");
  const format = /audio\/(?:x-)?(\w+)/.exec(head)?.[1].replace("mpeg", "mp3") ?? "wav";
  return { type: "input_audio", input_audio: { data, format } };
}

/** Files first, then what is asked about them. */
export function question(text, files) {
  const parts = files.map(({ kind, url }) => partOf(kind, url));
  return { role: "user", content: text === "" ? parts : [...parts, { type: "text", text }] };
}

export function request(model, messages) {
  return { model, messages, stream: true, stream_options: { include_usage: true } };
}

/** A command line that sends the same; the key, where there is one, comes from the environment. */
export function curl(url, body, withKey) {
  const json = JSON.stringify(body, null, 1); // no line of it is END
  const key = withKey ? ` -H "Authorization: Bearer $OPENAI_API_KEY"` : "";
  return `curl -N '${url}'${key} -H 'Content-Type: application/json' --data-binary @- <<'END'\n${json}\nEND\n`;
}

/** The objects of a stream of server-sent events, until `[DONE]`. */
export async function* chunks(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split(/\r?\n\r?\n/);
    text = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: ?/gm, "");
      if (data === "[DONE]") return;
      if (event.startsWith("data:")) yield JSON.parse(data);
    }
  }
}

/** An answer as it grows. Times are in seconds since it was asked for. */
export class Answer {
  constructor() {
    this.text = "";
    this.verdict = null; // {state, p1, p2, p3, transcript}
    this.usage = null;
    this.reason = null; // why it ended, as OpenAI says it
    this.first = null; // when its first words came
    this.total = null;
    this.error = null;
  }

  take(chunk, now) {
    this.total = now;
    this.error = chunk.error ?? this.error;
    this.verdict = chunk.vita ?? this.verdict;
    this.usage = chunk.usage ?? this.usage;
    const [choice] = chunk.choices ?? [];
    if (!choice) return;
    this.reason = choice.finish_reason ?? this.reason;
    const delta = choice.delta?.content ?? "";
    if (delta !== "") this.first ??= now;
    this.text += delta;
  }
}

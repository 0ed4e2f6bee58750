"""Messages nobody should send: made from the schema of the client events, then broken. The same for the same seed."""

import base64
import json
import random
from typing import Any

from vita_duplex.server.realtime.client_events import SUPPORTED, _client_event

Json = dict[str, Any]
SCHEMA = _client_event.json_schema()
DEEP = 5000
ITEMS = (
    "item_user_1",
    "item_user_2",
    "item_reply_1",
    "item_reply_2",
    "item_assistant_3",
    "mine",
    "item_aside_1",
    "item_x_1",
    "root",
)
RESPONSES = ("resp_1", "resp_2", "resp_aside_1", "resp_aside_x", "resp_" + "9" * 30)
TEXTS = ("what is it?", "", " ", "\x00", "\u202e", "🎤" * 50, "x" * 21_000, "\ud800", "你好" * 100, "<1>", "'\"\\\n")
NUMBERS = (
    0, -1, 1, 2, 63, 64, 300, 16_000, 24_000, 2**31, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, 1e-308,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


class Hostile:
    """An endless source of frames, a third of them what a decent client might send, though in no sensible order."""

    def __init__(self, seed: int) -> None:
        self.tail = ""
        """What the ids of the attacked session's items end with."""
        self._dice = random.Random(seed)
        self._numbers = 0
        self._sent: list[str] = []

    def frame(self) -> str | bytes:
        """A text or a binary frame."""
        dice = self._dice
        kind = dice.random()
        if kind < 0.04:
            return self._bytes()
        if kind < 0.06 and self._sent:
            return dice.choice(self._sent)  # once more
        frame: str | bytes
        if kind < 0.08:
            frame = self._nonsense()
        else:
            event = self.event()
            if kind > 0.4:
                for _ in range(dice.choice((1, 1, 1, 2, 5))):
                    event = self._mutated(event)
            frame = json.dumps(event)
            if kind > 0.85:
                frame = self._garbled(frame)
        if len(frame) < 5000:
            self._sent = [*self._sent[-20:], frame]
        return frame

    def event(self) -> Json:
        """An event as the schema allows it, with an id of its own."""
        self._numbers += 1
        reference = self._dice.choice(SCHEMA["oneOf"])
        return {"event_id": f"mine-{self._numbers}", **self._value(reference, "")}

    # ── from the schema ────────────────────────────────────────────────────────────────

    def _value(self, schema: Any, name: str) -> Any:
        dice = self._dice
        if "$ref" in schema:
            return self._value(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], name)
        if alternatives := schema.get("oneOf") or schema.get("anyOf"):
            return self._value(dice.choice(alternatives), name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return dice.choice(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return [self._value(schema.get("items", {}), name) for _ in range(dice.randint(1, 3))]
            case "string":
                return self._text(name)
            case "integer" | "number":
                low, high = schema.get("minimum", 0), schema.get("maximum", 3000)
                return dice.randint(int(low), int(high)) if schema["type"] == "integer" else dice.uniform(low, high)
            case "boolean":
                return dice.random() < 0.5
            case "null":
                return None
            case _:
                return dice.choice((None, None, [], "auto"))

    def _object(self, schema: Any) -> Json:
        if "properties" not in schema:
            return {"for": f"{self._numbers}"}
        required = schema.get("required", ())
        return {
            name: self._value(field, name)
            for name, field in schema["properties"].items()
            if name != "event_id" and (name in required or self._dice.random() < 0.4)
        }

    def _text(self, name: str) -> str:
        dice = self._dice
        match name:
            case "audio":
                return base64.b64encode(self._bytes()).decode()
            case "image_url":
                data = base64.b64encode(dice.randbytes(50)).decode()
                return dice.choice(("http://127.0.0.1/", "file:///etc/passwd", f"data:image/png;base64,{data}", PIXEL))
            case "item_id" | "id" | "previous_item_id":
                return dice.choice(ITEMS) + dice.choice(("", self.tail))
            case "voice":
                return dice.choice(("hibari", "humming-low", "alloy", "nobody"))
            case "response_id":
                return dice.choice(RESPONSES)
            case _:
                return "what is it?"

    def _bytes(self) -> bytes:
        """Sound or silence of up to 0.3 s, seldom of two seconds, in whole samples or not."""
        dice = self._dice
        count = dice.choice((0, 1, 2, 960, 961, 4800, 14_400, 14_400, 96_000))
        return (
            dice.choice((b"\x00", b"\x7f", b"\x00\x40\x00\xc0")) * count
            if dice.random() < 0.7
            else dice.randbytes(count)
        )

    # ── broken ─────────────────────────────────────────────────────────────────────────

    def _junk(self) -> Any:
        dice = self._dice
        match dice.randrange(8):
            case 0:
                return dice.choice(NUMBERS)
            case 1:
                return dice.choice(TEXTS)
            case 2:
                return dice.choice((None, True, False, [], {}, [[]], [None] * 100, {"": ""}))
            case 3:
                return {name: dice.choice(NUMBERS) for name in ("type", "event_id", "rate")}
            case 4:
                nested: Any = 1
                for _ in range(dice.choice((5, 150, 250))):
                    nested = [nested] if dice.random() < 0.5 else {"item": nested}
                return nested
            case 5:
                return dice.choice(("A", "A===", "AAA", "=" * 8, "AA\nAA", "_-_-", "é" * 4))
            case 6:
                return dice.choice((*SUPPORTED, "server_vad", "message", "audio", "response.created", "error"))
            case _:
                return {f"k{n}": n for n in range(dice.choice((1, 20, 500)))}

    def _mutated(self, value: Any) -> Any:
        """With something changed, missing, added or of another type, somewhere in it."""
        dice = self._dice
        if isinstance(value, dict) and value and dice.random() < 0.9:
            name = dice.choice([key for key in value if key != "type" or dice.random() < 0.2] or ["type"])
            match dice.randrange(6):
                case 0:
                    return {key: one for key, one in value.items() if key != name}
                case 1:
                    return {**value, dice.choice(("", "type", "event_id", "x" * 600, "é")): self._junk()}
                case _:
                    return {**value, name: self._mutated(value[name])}
        if isinstance(value, list) and value and dice.random() < 0.7:
            place = dice.randrange(len(value))
            return [*value[:place], self._mutated(value[place]), *value[place + 1 :] * dice.choice((0, 1, 1, 30))]
        return self._junk()

    def _garbled(self, frame: str) -> str:
        dice = self._dice
        place = dice.randrange(len(frame))
        match dice.randrange(4):
            case 0:
                return frame[:place]
            case 1:
                return frame[:place] + dice.choice('"{}[],:\\\x00é0-') + frame[place + 1 :]
            case 2:
                return frame[:place] + frame[place:] * 2
            case _:
                other = dice.randrange(len(frame))
                return frame[: min(place, other)] + frame[max(place, other) :]

    def _nonsense(self) -> str:
        dice = self._dice
        return dice.choice((
            "", " ", "null", "5", '"x"', "[]", "{}", "NaN", "\ufeff{}", "GET / HTTP/1.1", "[" * DEEP, '{"a":' * DEEP,
            "[" * DEEP + "]" * DEEP, '{"type":' + "9" * DEEP + "}", '{"type":"playback.ack","type":null}',
            '{"type":"input_audio_buffer.append","audio":"' + "A" * 100_000,
        ))  # fmt: skip


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)

"""A local server with OpenAI's chat completions, in the dialects of those that people have."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.voice_servers import Asked

PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
CALLS: dict[str, list[list[dict[str, Any]]]] = {
    # as OpenAI and vLLM stream them: the name first, the arguments in pieces, by index
    "calls": [
        [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"city": '}}],
        [{"index": 0, "function": {"arguments": '"Paris"}'}}],
        [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "weather", "arguments": ""}}],
        [{"index": 1, "function": {"arguments": ROME}}],
    ],
    # as Ollama did: whole, and each at index 0
    "whole calls": [
        [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": PARIS}}],
        [{"index": 0, "id": "call_2", "type": "function", "function": {"name": "weather", "arguments": ROME}}],
    ],
    # as Gemini's: without an index, in one delta
    "calls without index": [
        [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": PARIS}},
            {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": ROME}},
        ]
    ],
    "cut in a call": [
        [{"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": PARIS}}],
        [{"index": 1, "id": "call_2", "function": {"name": "weather", "arguments": '{"ci'}}],
    ],
    "invents": [[{"index": 0, "id": "call_1", "function": {"name": "traffic", "arguments": PARIS}}]],
    "bare": [[{"index": 0, "id": "call_1", "function": {"name": "weather"}}]],
}


class ChatHandler(BaseHTTPRequestHandler):
    """`GET /v1/models` and `POST /v1/chat/completions`; the model's name says what happens."""

    asked: Asked

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": "plain"}, {"id": "other"}]})

    def do_POST(self) -> None:
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.requests.append({"path": self.path, **wish})
        self.asked.headers.append(dict(self.headers))
        model = wish["model"]
        if model == "small" and len(wish["messages"]) > 3:
            return self._refuse(400, "This model's maximum context length is 40 tokens. Please reduce the length.")
        if model == "new" and "max_tokens" in wish:
            return self._refuse(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if model == "locked":
            return self._refuse(401, "Incorrect API key provided.")
        if model == "page":
            return self._json(200, "<html>")
        if "tools" in wish and model == "toolless":
            return self._refuse(400, "toolless does not support tools")
        return self._stream(model)

    def _stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for delta in {
            "thinking": ["<think>", "I greet", "</think>\n\n", "Hello", "."],
            "parser": [None, "Hello", "."],  # a reasoning parser sends thoughts in a field of their own
        }.get(model, ["Hello", "."]):
            content = {"reasoning_content": "I greet"} if delta is None else {"content": delta}
            self._event({"choices": [{"index": 0, "delta": content, "finish_reason": None}]})
        if model == "half":
            return
        if model == "broken":
            self._event({"error": {"message": "CUDA out of memory"}})
            return
        for calls in CALLS.get(model, ()):
            self._event({"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}]})
        reason = "length" if model in ("cut", "cut in a call") else "tool_calls" if model in CALLS else "stop"
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if model != "uncounted":
            self._event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: Any) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _refuse(self, status: int, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def _json(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

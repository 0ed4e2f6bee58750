"""One answer as OpenAI's Responses API tells it: its events, and the response they add up to. Pure."""

import secrets
from typing import Any

from vita_duplex.engine.messages import Call, Finished, Usage, Verdict
from vita_duplex.server.http.responses_requests import ResponsesRequest
from vita_duplex.server.realtime.items import Json


class ResponseEvents:
    """Takes what an instance says and gives the events of it."""

    def __init__(self, request: ResponsesRequest, model: str, created: int) -> None:
        """`created`: seconds since 1970."""
        choice = request.tool_choice
        self._number = 0
        self._message: Json | None = None  # the item that is being written
        self.response: Json = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "model": model,
            "output": [],
            "parallel_tool_calls": request.parallel_tool_calls,
            "previous_response_id": request.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "store": request.store,
            "temperature": request.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": [{"strict": False, **tool.model_dump()} for tool in request.tools],
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    def begin(self) -> list[Json]:
        return [self._whole("response.created"), self._whole("response.in_progress")]

    def push(self, item: Verdict | str | Call | Finished) -> list[Json]:
        match item:
            case Verdict(p1=p1, p2=p2, p3=p3):
                self.response["vita"] = {"state": item.state, "p1": p1, "p2": p2, "p3": p3}
                return []
            case Call():
                return self._call(item)
            case Finished(reason, usage):
                return self._finish(reason, usage)
            case delta:
                return self._write(delta) if delta else []  # an empty piece says that the model thinks

    def fail(self, message: str) -> list[Json]:
        """The engine failed in mid-answer."""
        self.response["status"] = "failed"
        self.response["error"] = {"code": "server_error", "message": message}
        return [*self._close("incomplete"), self._whole("response.failed")]

    @property
    def said(self) -> dict[str, Json]:
        """The items of the answer as messages of a chat, by their ids."""
        return {item["id"]: _message(item) for item in self.response["output"]}

    def _write(self, delta: str) -> list[Json]:
        opened = [] if self._message else self._open()
        assert self._message is not None
        self._message["content"][0]["text"] += delta
        return [*opened, self._in_part("response.output_text.delta", delta=delta, logprobs=[])]

    def _call(self, call: Call) -> list[Json]:
        """A call comes whole."""
        events = self._close("completed")
        name = {"id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "call_id": call.id, "name": call.name}
        item = {**name, "arguments": call.arguments, "status": "completed"}
        where = {"item_id": item["id"]}
        events += [
            self._in_output("response.output_item.added", item={**name, "arguments": "", "status": "in_progress"}),
            self._in_output("response.function_call_arguments.delta", **where, delta=call.arguments),
            self._in_output("response.function_call_arguments.done", **where, name=call.name, arguments=call.arguments),
            self._in_output("response.output_item.done", item=item),
        ]
        self.response["output"].append(item)
        return events

    def _open(self) -> list[Json]:
        self._message = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        added = self._in_output("response.output_item.added", item={**self._message, "content": []})
        self._message["content"].append({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        return [added, self._in_part("response.content_part.added", part={**self._message["content"][0]})]

    def _close(self, status: str) -> list[Json]:
        if self._message is None:
            return []
        message, [part] = self._message, self._message["content"]
        message["status"] = status
        events = [
            self._in_part("response.output_text.done", text=part["text"], logprobs=[]),
            self._in_part("response.content_part.done", part=part),
            self._in_output("response.output_item.done", item=message),
        ]
        self.response["output"].append(message)
        self._message = None
        return events

    def _finish(self, reason: str, usage: Usage) -> list[Json]:
        cut = reason == "length"
        status = "incomplete" if cut else "completed"
        events = self._close(status)
        self.response["status"] = status
        self.response["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        self.response["usage"] = {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        return [*events, self._whole(f"response.{status}")]

    # ── the forms of events ────────────────────────────────────────────────────────────

    def _event(self, kind: str, **fields: Any) -> Json:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event

    def _whole(self, kind: str) -> Json:
        return self._event(kind, response={**self.response, "output": [*self.response["output"]]})

    def _in_output(self, kind: str, **fields: Any) -> Json:
        return self._event(kind, output_index=len(self.response["output"]), **fields)

    def _in_part(self, kind: str, **fields: Any) -> Json:
        assert self._message is not None
        return self._in_output(kind, item_id=self._message["id"], content_index=0, **fields)


def _message(item: Json) -> Json:
    """An item of an answer as a message of a chat."""
    if item["type"] == "message":
        return {"role": "assistant", "content": item["content"][0]["text"]}
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"role": "assistant", "tool_calls": [{"id": item["call_id"], "type": "function", "function": function}]}

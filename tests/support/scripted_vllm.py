"""Servers that speak vLLM's HTTP API as far as an instance asks for it, and answer by script. Each has a loopback
address of its own and all the same port, as the pods behind one name have."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from vita_duplex.engine.instances.remote_prompt import beginnings
from vita_duplex.models.prompts import wording

WORDS = tuple(f"word{number}" for number in range(1, 13))
TEXT = " ".join(WORDS) + "."
WORD_S = 0.05
"""Between two words: so a reply is under way for a while."""


class ScriptedVllm:
    """One server. Every utterance is meant for it; every answer is `TEXT`, or what is left of it."""

    def __init__(self, ip: str, port: int) -> None:
        self.address = f"{ip}:{port}"
        self.hangs = False
        """It says that it is well, and answers nothing more."""
        self.others = 0
        """Requests of other gateways."""
        self.running = 0
        self.begun = 0
        """Answers that it began or went on with."""
        self.sessions: set[str] = set()
        """Who asked, by the header."""
        self._place = ip, port
        before, begun, *with_state = beginnings(wording())
        self._ids = {before: [2, 9], begun: [2, 9]} | {text: [2, 9, 3 + n] for n, text in enumerate(with_state)}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        ip, port = self._place
        self._server = uvicorn.Server(uvicorn.Config(self._app(), host=ip, port=port, lifespan="off", log_config=None))
        running = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            self.die()
            await running

    def die(self) -> None:
        """Close everything at once, as a process does that is killed."""
        self._server.should_exit = self._server.force_exit = True
        for listening in self._server.servers:
            listening.close()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/health")
        async def health() -> dict[str, str]:
            return {}

        @app.get("/metrics")
        async def metrics() -> Response:
            waiting = 'vllm:num_requests_waiting{engine="0",model_name="vita"} 0.0\n'
            running = f'vllm:num_requests_running{{engine="0",model_name="vita"}} {self.running + self.others}.0\n'
            return Response(running + waiting, media_type="text/plain")

        @app.post("/tokenize")
        async def tokenize(request: Request) -> dict[str, Any]:
            text = (await request.json())["messages"][0]["content"][0]["text"]
            return {"tokens": self._ids[text], "max_model_len": 4096}

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = await request.json()
            self.sessions.add(request.headers.get("x-session-id", ""))
            if self.hangs:
                await asyncio.Event().wait()
            if body.get("stream"):
                return StreamingResponse(self._words(body), media_type="text/event-stream")
            told = [{"token": f"token_id:{one}", "logprob": -0.01 if one == 3 else -6.0} for one in (3, 4, 5)]
            choice = {
                "logprobs": {"content": [{"token": "token_id:3", "top_logprobs": told}]},
                "finish_reason": "length",
            }
            return JSONResponse({"choices": [choice]})

        return app

    async def _words(self, body: dict[str, Any]) -> AsyncGenerator[str]:
        """What is left of the text behind the beginning that the prompt ends with."""
        prompt = "".join(part.get("text", "") for part in body["messages"][0]["content"])
        so_far = re.sub(r"^<\d>", "", prompt.rpartition("bot:")[2])
        self.running += 1
        self.begun += 1
        try:
            for place in range(len(so_far), len(TEXT), 6):
                if self.hangs:
                    await asyncio.Event().wait()
                await asyncio.sleep(WORD_S)
                yield _chunk({"choices": [{"delta": {"content": TEXT[place : place + 6]}, "finish_reason": None}]})
            yield _chunk({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            yield _chunk({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})
            yield "data: [DONE]\n\n"
        finally:
            self.running -= 1


def _chunk(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"

"""VITA on another node: an instance over the HTTP API of a vLLM server that has our plugin.

An answer takes two requests to `/v1/chat/completions`. The first may only write a state token and tells the
probabilities of all three; the second goes on behind the query's and streams. Its prompt is in the server's prefix
cache by then. The prompts are ours to the letter (`verbatim` in tools/make_chat_templates.py); closing the connection
aborts a request. Written for vLLM 0.32, with its default flags.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import httpx2
from pydantic import Field, SecretStr

from vita_duplex.engine.instances.remote_http import VllmServer, encoded
from vita_duplex.engine.instances.remote_prompt import (
    Part,
    beginnings,
    content,
    is_only_named,
    shared_beginning,
    states_of,
)
from vita_duplex.engine.instances.vita import AHEAD_TOKENS, PART, TYPED, Names, audible
from vita_duplex.engine.instances.vita_chat import Reading, body
from vita_duplex.engine.instances.vita_dialogue import (
    Count,
    Manner,
    Unmarked,
    Written,
    heard,
    is_spoken,
    opening,
    seen,
    weighed,
    write,
    write_ahead,
)
from vita_duplex.engine.messages import (
    Call,
    Chat,
    Finished,
    LeftOut,
    Query,
    Usage,
    Verdict,
)
from vita_duplex.engine.ports import PartFailed, Unanswerable
from vita_duplex.engine.section import Section
from vita_duplex.models.audio_features import clip_tokens
from vita_duplex.models.prompts import Prompt, wording
from vita_duplex.models.tiling import check_size
from vita_duplex.models.tokens import StateTokens

MOST_REMEMBERED = 1000
"""Media known to be in a server's cache; one that was forgotten is sent again."""

OTHERS_WEIGHT = 0.2
"""Weight of the latest reading of what others ask of a server: half of a change is believed after three readings."""

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


class RemoteConfig(Section):
    """Which vLLM servers answer."""

    urls: tuple[Annotated[str, Field(pattern=r"^https?://[^/]+")], ...] = ()
    """Addresses such as `http://node1:8000`, without `/v1`. Each is one instance."""
    service: str | None = Field(None, pattern=r"^http://[^/:]+:\d+$")
    """Address whose name stands for engines that come and go, in the place of `urls`, such as `http://engines:8000`.
    Each address that DNS has for it is one instance."""
    model: str | None = None
    """Name the model is served under. None takes the first one there is."""
    api_key: SecretStr | None = None
    """API key, as in `vllm serve --api-key`. Better in the environment than in a file."""
    style: Literal["vita-1.0", "vita-1.5"] = "vita-1.0"
    """Generation of the served checkpoint, whose prompts are written."""
    max_tokens: int = Field(512, ge=1)
    """Longest answer, in tokens."""
    picture_tokens: int = Field(256, ge=1)
    """Tokens of one picture: 256 for each of its tiles."""


@dataclass(frozen=True, slots=True)
class Served:
    """What has to be known of a server's model."""

    states: StateTokens
    max_model_len: int


class RemoteInstance:
    """One vLLM server."""

    sees = True
    follows_schemas = False  # as for `VitaInstance`
    calls = False

    def __init__(self, name: str, address: str, config: RemoteConfig) -> None:
        """Nothing is sent yet: a server may come up later than we do."""
        self.name = name
        self._config = config
        self._manner = Manner(wording(config.style))
        key = config.api_key.get_secret_value() if config.api_key else None
        self._server = VllmServer(name, address, key, on_lost=self._forget, on_load=self._weigh)
        self._served: Served | None = None
        self._sent: dict[str, None] = {}
        self._names = Names()
        self.in_flight = 0
        """Answers, chats and warm-ups under way."""
        self.elsewhere = 0
        """Requests that the server has of others."""
        self._others = 0.0

    def _weigh(self, load: float) -> None:
        """The server has so many requests, of which some are ours. What others have moves slots, so it is smoothed."""
        self._others += OTHERS_WEIGHT * (max(0.0, load - self.in_flight) - self._others)
        if abs(self._others - self.elsewhere) >= 1:
            self.elsewhere = round(self._others)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @property
    def healthy(self) -> bool:
        return self._server.up

    def close(self) -> None:
        self._server.close()

    def _forget(self) -> None:
        """The server that comes back may serve another model."""
        self._served = None

    def restart(self) -> None:
        """It is somebody else's to start, and noticed when it is back."""

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Call | Usage | LeftOut]:
        with self._counted():
            so_far = query.answer_so_far
            if not is_spoken(query) and so_far is None:
                yield TYPED
            served = await self._look()
            prompt, left_out = self._fitted(write, query, self._room(served))
            if left_out:
                yield LeftOut(left_out)
            if is_spoken(query) and so_far is None:
                yield await self._judge(prompt, served)
            state = opening(query, prompt)
            begun = "" if state is None else self._manner.wording.states[state]
            of_state = 0 if state is None else len(served.states.ids[state])
            async with aclosing(self._continue(prompt, begun, so_far or "", of_state, query.max_tokens)) as items:
                async for item in items:
                    yield item

    async def warm(self, query: Query) -> None:
        with self._counted():
            served = await self._look()
            prompt, _ = self._fitted(write_ahead, query, self._room(served) - AHEAD_TOKENS)
            await self._server.finished(await self._ask(prompt, "", max_completion_tokens=1))

    # ── requests ───────────────────────────────────────────────────────────────────────

    async def _judge(self, prompt: Prompt, served: Served) -> Verdict:
        """Probabilities of the three state tokens among each other."""
        ids = list(served.states.deciding.values())
        response = await self._ask(
            prompt,
            shared_beginning(self._manner.wording) if served.states.shared else "",
            max_completion_tokens=1,
            allowed_token_ids=ids,
            logprobs=True,
            logprob_token_ids=ids,  # of the whole vocabulary, not of those allowed
            return_tokens_as_token_ids=True,
        )
        answer = await self._server.finished(response)
        with self._server.failures():
            first = answer["choices"][0]["logprobs"]["content"][0]
            told = {one["token"]: one["logprob"] for one in first["top_logprobs"]}
            return weighed({state: told[f"token_id:{one}"] for state, one in served.states.deciding.items()})

    async def chat(self, chat: Chat) -> AsyncGenerator[Verdict | str | Call | Finished]:
        with self._counted():
            served = await self._look()
            reading = Reading(chat, self._manner.wording, served.states)
            ids = {state: f"token_id:{one}" for state, one in served.states.deciding.items()}
            asked = await asyncio.to_thread(body, chat, served.states, self._config.max_tokens)
            asked |= STREAMED | {"return_tokens_as_token_ids": True}
            if self._config.model is not None:
                asked["model"] = self._config.model
            response = await self._server.post("/v1/chat/completions", await asyncio.to_thread(encoded, asked))
            if response.is_client_error and response.status_code not in (401, 403):
                raise Unanswerable((await self._server.refusal(response)).message)
            if not response.is_success:
                raise await self._server.refusal(response)
            async with aclosing(self._server.streamed(response)) as choices:
                async for choice in choices:
                    if isinstance(choice, Finished):
                        if piece := reading.finish():
                            yield piece
                        yield choice
                        return
                    with self._server.failures():
                        tokens = (choice.get("logprobs") or {}).get("content") or []
                        told = [{one["token"]: one["logprob"] for one in token["top_logprobs"]} for token in tokens]
                        rows = [{state: row[name] for state, name in ids.items()} for row in told]
                    for item in reading.push(choice["delta"].get("content") or "", rows):
                        yield item

    async def _continue(
        self, prompt: Prompt, state: str, so_far: str, opening: int, max_tokens: int | None
    ) -> AsyncGenerator[str | Usage]:
        """Yield what comes behind the prompt, the state token of its answer and the beginning of that; then what it
        cost. `opening`: the tokens of the state.
        """
        text = Unmarked(self._manner.wording, so_far)
        # Its tokens are counted on the server only: a few more at the end of an answer that was moved.
        most = min(self._config.max_tokens, max_tokens or self._config.max_tokens)
        response = await self._ask(prompt, state + so_far, **STREAMED, max_completion_tokens=most)
        async with aclosing(self._server.streamed(response)) as choices:
            async for choice in choices:
                if isinstance(choice, Finished):
                    if delta := text.finish():
                        yield delta
                    cost, cut = choice.usage, choice.reason == "length"
                    yield Usage(cost.input_tokens - opening, cost.output_tokens + opening, cut)
                elif delta := text.push(choice["delta"].get("content") or ""):
                    yield delta

    async def _ask(self, prompt: Prompt, begun: str, **options: Any) -> httpx2.Response:
        """Send a prompt; return when its answer begins to come. The caller closes it.

        Media that the server has are only named. If it does not take that, they are sent after all.
        """
        # The original samples at a temperature of 0.001, which is greedy but for ties.
        options |= {"temperature": 0, "repetition_penalty": 1, "chat_template_kwargs": {"verbatim": True}}
        if self._config.model is not None:
            options["model"] = self._config.model
        known: Collection[str] = self._sent.keys()
        while True:
            parts = await asyncio.to_thread(content, prompt, begun, self._names, frozenset(known))
            body = {**options, "messages": [{"role": "user", "content": parts}]}
            response = await self._server.post("/v1/chat/completions", await asyncio.to_thread(encoded, body))
            if response.is_success:
                self._remember(parts)
                return response
            failure = await self._server.refusal(response)
            if not any(is_only_named(part) for part in parts):
                raise failure
            known = ()

    async def _look(self) -> Served:
        """Ask the server for its state tokens, once; that also shows whether it has our chat template."""
        if self._served is None:
            self._server.watch()
            ids, max_model_len = dict[str, list[int]](), 0
            for text in beginnings(self._manner.wording):
                message = {"role": "user", "content": [{"type": "text", "text": text}]}
                body = {"messages": [message], "chat_template_kwargs": {"verbatim": True}}
                answer = await self._server.finished(await self._server.post("/tokenize", encoded(body)))
                with self._server.failures():
                    ids[text], max_model_len = answer["tokens"], answer["max_model_len"]
            try:
                states = states_of(ids, self._manner.wording)
            except ValueError as exc:
                raise self._server.failed(
                    f"it does not serve VITA with the chat template of our plugin ({exc})"
                ) from exc
            self._served = Served(states, max_model_len)
        return self._served

    # ── what the server can hold ───────────────────────────────────────────────────────

    def _room(self, served: Served) -> int:
        """Tokens of a prompt that leave room for its answer."""
        return served.max_model_len - self._config.max_tokens - max(map(len, served.states.ids.values()))

    def _fitted(self, write: Callable[[Query, Manner, int, Count], Written], query: Query, room: int) -> Written:
        try:
            written = write(query, self._manner, room, self._most_tokens)
            self._most_tokens(written.prompt)  # refuses what no server could use, also where nothing had to be counted
            return written
        except ValueError as exc:  # ten minutes of sound, a picture without pixels
            raise PartFailed(PART, str(exc)) from exc

    def _most_tokens(self, prompt: Prompt) -> int:
        """At most so many tokens: tokenizers of this family write no text with more tokens than bytes.

        The tokenizer is on the server. In English this takes text for four times what it is, and so forgets the
        oldest of a very long dialogue earlier than it had to.
        """
        for frame in seen(prompt):
            check_size(frame.shape[1], frame.shape[0])
        media = len(seen(prompt)) * self._config.picture_tokens
        media += sum(clip_tokens(len(audible(samples))) for samples in heard(prompt))
        return 1 + media + sum(len(piece.encode()) + 1 for piece in prompt.pieces if isinstance(piece, str))

    def _remember(self, parts: Collection[Part]) -> None:
        self._sent |= {part["uuid"]: None for part in parts if "uuid" in part}
        while len(self._sent) > MOST_REMEMBERED:
            del self._sent[next(iter(self._sent))]

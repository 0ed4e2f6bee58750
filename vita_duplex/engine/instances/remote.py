"""VITA on another node: an instance over the HTTP API of a vLLM server that has our plugin.

An answer takes two requests to `/v1/chat/completions`. The first may only write a state token and tells the
probabilities of all three; the second goes on behind the query's and streams. Its prompt is in the server's prefix
cache by then. The prompts are ours to the letter (`verbatim` in models/chat_template.py); closing the connection
aborts a request. Written for vLLM 0.32, with its default flags.
"""

import asyncio
import base64
import io
import json
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any, Literal, cast

import httpx2
from PIL import Image as Pillow
from pydantic import Field, SecretStr
from pydantic_core import to_json

from vita_duplex.engine.instances.vita import AHEAD_TOKENS, PART, TYPED, Names, audible
from vita_duplex.engine.instances.vita_chat import Reading, body, wav
from vita_duplex.engine.instances.vita_dialogue import (
    Count,
    Manner,
    Unmarked,
    as_shown,
    heard,
    is_spoken,
    opening,
    seen,
    weighed,
    write,
    write_ahead,
)
from vita_duplex.engine.messages import Chat, Finished, Pixels, Query, Usage, Utterance, Verdict
from vita_duplex.engine.ports import PartFailed, Unanswerable
from vita_duplex.engine.section import Section
from vita_duplex.models.audio_features import clip_tokens
from vita_duplex.models.prompts import Audio, Image, Prompt, Wording, wording
from vita_duplex.models.tiling import check_size
from vita_duplex.models.tokens import StateTokens, state_tokens

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 5
SILENCE_LIMIT_S = 30
"""A server that sends nothing for this long hangs."""
WATCH_S = 1
"""How often a server is asked whether it is well."""
MOST_REMEMBERED = 1000
"""Media known to be in a server's cache; one that was forgotten is sent again."""

Part = dict[str, Any]
"""One part of a chat message's content."""
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


class RemoteConfig(Section):
    """Which vLLM servers answer."""

    urls: tuple[Annotated[str, Field(pattern=r"^https?://[^/]+")], ...] = ()
    """Addresses such as `http://node1:8000`, without `/v1`. Each is one instance."""
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

    def __init__(self, name: str, address: str, config: RemoteConfig) -> None:
        """Nothing is sent yet: a server may come up later than we do."""
        self.name = name
        self._address = address
        self._config = config
        self._manner = Manner(wording(config.style))
        key = config.api_key
        self._http = httpx2.AsyncClient(
            base_url=address,
            headers={} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"},
            timeout=httpx2.Timeout(SILENCE_LIMIT_S, connect=CONNECT_LIMIT_S),
            limits=httpx2.Limits(max_connections=None),
            trust_env=False,  # settings come from one place; a proxy in the environment is not meant for our nodes
        )
        self._is_up = True
        self._served: Served | None = None
        self._sent: dict[str, None] = {}
        self._names = Names()
        self._watching: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """False from a broken connection until the server says again that it is well; asked every second."""
        return self._is_up

    def close(self) -> None:
        self._is_up = False
        if self._watching is not None:
            self._watching.cancel()

    def restart(self) -> None:
        """It is somebody else's to start, and noticed when it is back."""

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Usage]:
        so_far = query.answer_so_far
        if not is_spoken(query) and so_far is None:
            yield TYPED
        served = await self._look()
        prompt = self._fitted(write, query, self._room(served))
        if is_spoken(query) and so_far is None:
            yield await self._judge(prompt, served)
        state = opening(query, prompt)
        begun = "" if state is None else self._manner.wording.states[state]
        of_state = 0 if state is None else len(served.states.ids[state])
        async with aclosing(self._continue(prompt, begun, so_far or "", of_state, query.max_tokens)) as items:
            async for item in items:
                yield item

    async def warm(self, query: Query) -> None:
        """Have the server compute what comes before the query's next utterance.

        A server that cannot be reached is no error here: it may come up before anybody speaks.
        """
        try:
            served = await self._look()
            prompt = self._fitted(write_ahead, query, self._room(served) - AHEAD_TOKENS)
            await self._finished(await self._ask(prompt, "", max_completion_tokens=1))
        except PartFailed as failure:
            log.warning("%s at %s", failure, self._address)  # clients are told the name only

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
        answer = await self._finished(response)
        with self._failures():
            first = answer["choices"][0]["logprobs"]["content"][0]
            told = {one["token"]: one["logprob"] for one in first["top_logprobs"]}
            return weighed({state: told[f"token_id:{one}"] for state, one in served.states.deciding.items()})

    async def chat(self, chat: Chat) -> AsyncGenerator[Verdict | str | Finished]:
        served = await self._look()
        reading = Reading(chat, self._manner.wording, served.states)
        ids = {state: f"token_id:{one}" for state, one in served.states.deciding.items()}
        asked = await asyncio.to_thread(body, chat, served.states, self._config.max_tokens)
        asked |= STREAMED | {"return_tokens_as_token_ids": True}
        if self._config.model is not None:
            asked["model"] = self._config.model
        response = await self._post("/v1/chat/completions", await asyncio.to_thread(encoded, asked))
        if response.is_client_error and response.status_code not in (401, 403):
            raise Unanswerable((await self._refusal(response)).message)
        if not response.is_success:
            raise await self._refusal(response)
        async with aclosing(self._streamed(response)) as choices:
            async for choice in choices:
                if isinstance(choice, Finished):
                    if piece := reading.finish():
                        yield piece
                    yield choice
                    return
                with self._failures():
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
        async with aclosing(self._streamed(response)) as choices:
            async for choice in choices:
                if isinstance(choice, Finished):
                    if delta := text.finish():
                        yield delta
                    cost, cut = choice.usage, choice.reason == "length"
                    yield Usage(cost.input_tokens - opening, cost.output_tokens + opening, cut)
                elif delta := text.push(choice["delta"].get("content") or ""):
                    yield delta

    async def _streamed(self, response: httpx2.Response) -> AsyncGenerator[dict[str, Any] | Finished]:
        """The choices of a streamed answer, and then its end; closes the response."""
        reason, usage = None, None
        async with aclosing(response):
            with self._failures():
                async for event in httpx2.EventSource(response):
                    if event.data == "[DONE]":
                        continue  # to the end, or the connection could not be used again
                    chunk = cast(Any, event.json())
                    if "error" in chunk:
                        raise self._failed(complaint(chunk))
                    if told := chunk.get("usage"):
                        usage = Usage(told["prompt_tokens"], told["completion_tokens"])
                    for choice in chunk["choices"]:
                        reason = choice["finish_reason"] or reason
                        yield choice
        if reason not in ("stop", "length") or usage is None:
            raise self._failed("the answer broke off")
        yield Finished(reason, usage)

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
            response = await self._post("/v1/chat/completions", await asyncio.to_thread(encoded, body))
            if response.is_success:
                self._remember(parts)
                return response
            failure = await self._refusal(response)
            if not any(is_only_named(part) for part in parts):
                raise failure
            known = ()

    async def _look(self) -> Served:
        """Ask the server for its state tokens, once; that also shows whether it has our chat template."""
        if self._served is None:
            self._watching = self._watching or asyncio.get_running_loop().create_task(self._watch(), name="watch")
            ids, max_model_len = dict[str, list[int]](), 0
            for text in beginnings(self._manner.wording):
                message = {"role": "user", "content": [{"type": "text", "text": text}]}
                body = {"messages": [message], "chat_template_kwargs": {"verbatim": True}}
                answer = await self._finished(await self._post("/tokenize", encoded(body)))
                with self._failures():
                    ids[text], max_model_len = answer["tokens"], answer["max_model_len"]
            try:
                states = states_of(ids, self._manner.wording)
            except ValueError as exc:
                raise self._failed(f"it does not serve VITA with the chat template of our plugin ({exc})") from exc
            self._served = Served(states, max_model_len)
        return self._served

    async def _post(self, path: str, body: bytes) -> httpx2.Response:
        def send() -> Any:
            request = self._http.build_request("POST", path, content=body, headers={"Content-Type": "application/json"})
            return self._http.send(request, stream=True)

        with self._failures():
            try:
                return cast(httpx2.Response, await send())
            except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):
                return cast(httpx2.Response, await send())  # the server closed a kept connection just then

    async def _finished(self, response: httpx2.Response) -> Any:
        """The whole of a good answer."""
        if not response.is_success:
            raise await self._refusal(response)
        async with aclosing(response):
            with self._failures():
                await response.aread()
                return response.json()

    async def _refusal(self, response: httpx2.Response) -> PartFailed:
        async with aclosing(response):
            with self._failures():
                await response.aread()
        return self._failed(f"{response.status_code}, {complaint(response.text)}")

    def _failed(self, what: str) -> PartFailed:
        return PartFailed(PART, f"{self.name}: {what}")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Tell whatever goes wrong with the network or the form of an answer as a failure of this part."""
        try:
            yield
        except httpx2.HTTPError as exc:
            self._is_up, self._served = False, None
            raise self._failed(f"cannot be reached ({type(exc).__name__} {exc})".replace(" )", ")")) from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise self._failed(f"this is no answer of vLLM 0.32 ({type(exc).__name__} {exc})") from exc

    async def _watch(self) -> None:
        try:
            while True:
                await asyncio.sleep(WATCH_S)
                try:
                    self._is_up = (await self._http.get("/health", timeout=CONNECT_LIMIT_S)).is_success
                except httpx2.HTTPError:
                    self._is_up, self._served = False, None
        finally:
            await self._http.aclose()

    # ── what the server can hold ───────────────────────────────────────────────────────

    def _room(self, served: Served) -> int:
        """Tokens of a prompt that leave room for its answer."""
        return served.max_model_len - self._config.max_tokens - max(map(len, served.states.ids.values()))

    def _fitted(self, write: Callable[[Query, Manner, int, Count], Prompt], query: Query, room: int) -> Prompt:
        try:
            prompt = write(query, self._manner, room, self._most_tokens)
            self._most_tokens(prompt)  # refuses what no server could use, also where nothing had to be counted
            return prompt
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


def content(prompt: Prompt, begun: str, names: Names, known: Collection[str]) -> list[Part]:
    """A prompt and the beginning of its answer as the parts of one message; media in `known` are only named.

    Sound goes as 32-bit samples and pictures without loss, so that the model gets the very numbers it would get
    in our own process: 85 kB for a second of sound.
    """
    parts: list[Part] = []
    for piece in prompt.pieces:
        match piece:
            case Audio(sound):
                samples = cast(Utterance, sound).samples
                assert samples is not None
                name = names.of(samples)
                data = None if name in known else {"data": wav(audible(samples)), "format": "wav"}
                parts.append({"type": "input_audio", "input_audio": data, "uuid": name})
            case Image(picture):
                frame = cast(Pixels, picture)
                name = names.of(frame)
                shown = as_shown(frame, Manner(prompt.wording))
                url = None if name in known else {"url": f"data:image/bmp;base64,{bmp(shown)}"}
                parts.append({"type": "image_url", "image_url": url, "uuid": name})
            case _:
                parts.append({"type": "text", "text": piece})
    return [*parts, {"type": "text", "text": begun}] if begun else parts


def is_only_named(part: Part) -> bool:
    return "uuid" in part and part[part["type"]] is None


def bmp(frame: Pixels) -> str:
    """In base64. Not packed: PNG saves a third, and costs 40 ms of a core for 640x480 instead of half of one."""
    file = io.BytesIO()
    Pillow.fromarray(frame).save(file, "BMP")
    return base64.b64encode(file.getvalue()).decode()


def encoded(body: Mapping[str, Any]) -> bytes:
    return to_json(body)  # ten times as fast as json, which would keep every other thread waiting


def complaint(answer: Any) -> str:
    """What a server says is wrong, in one line of reasonable length."""
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = {"error": answer}
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:300]


def shared_beginning(words: Wording) -> str:
    """What the state tokens have in common as text: nothing but where each is several tokens."""
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*words.states.values(), strict=False))
    return "".join(first for first, *_ in columns)


def beginnings(words: Wording) -> list[str]:
    """The texts whose tokens tell the state tokens from what stands before them."""
    before = words.turn_end + words.bot_prefix
    return [before, before + shared_beginning(words), *(before + state for state in words.states.values())]


def states_of(ids: Mapping[str, list[int]], words: Wording) -> StateTokens:
    """The state tokens by the token ids of the `beginnings`.

    Errors: `ValueError` where they cannot be used.
    """
    states = state_tokens(Looked(ids), words)
    before, begun, *_ = (ids[text] for text in beginnings(words))
    if states.shared and begun != [*before, *states.shared]:
        raise ValueError("what the state tokens begin with has other tokens when it stands alone")
    return states


@dataclass(frozen=True, slots=True)
class Looked:
    """A tokenizer that has been asked before."""

    ids: Mapping[str, list[int]]
    bos_token_id: int | None = None

    def encode(self, text: str) -> list[int]:
        return self.ids[text]

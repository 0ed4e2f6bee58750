"""The connection to one vLLM server: requests, streams, whether the server is well, and failures as `PartFailed`.

Written for vLLM 0.32.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, cast

import httpx2
from pydantic_core import to_json

from vita_duplex.engine.instances.vita import PART
from vita_duplex.engine.messages import Finished, Usage
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.session_id import session_id

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 5
SILENCE_LIMIT_S = 30
"""A server that sends nothing for this long hangs."""
WATCH_S = 1
"""How often a server is asked whether it is well."""
REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{.*\})? (\S+)$", re.M)
"""Of its metrics, `/metrics`."""
SESSION = "X-Session-Id"
"""By this header a router of HTTP (vLLM production-stack's `--session-key`) keeps a session on the engine whose cache
has its dialogue."""


class VllmServer:
    """One vLLM server. Nothing is sent before the first request: the server may come up later."""

    def __init__(
        self,
        name: str,
        address: str,
        key: str | None,
        on_lost: Callable[[], None],
        on_load: Callable[[float], None] = lambda load: None,
    ) -> None:
        """`name` is what users are told, `address` is for the log only; `on_lost` is called whenever the server
        cannot be reached, `on_load` with the requests that it says it has."""
        self.name = name
        self.up = True
        """False from a broken connection until the server says again that it is well."""
        self._address = address
        self._on_lost = on_lost
        self._on_load = on_load
        self._http = httpx2.AsyncClient(
            base_url=address,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(SILENCE_LIMIT_S, connect=CONNECT_LIMIT_S),
            limits=httpx2.Limits(max_connections=None),
            trust_env=False,  # settings come from one place; a proxy in the environment is not meant for our nodes
        )
        self._watching: asyncio.Task[None] | None = None

    def close(self) -> None:
        self.up = False
        if self._watching is not None:
            self._watching.cancel()

    def watch(self) -> None:
        """Ask the server every second whether it is well, from now on."""
        self._watching = self._watching or asyncio.get_running_loop().create_task(self._watch(), name="watch")

    async def streamed(self, response: httpx2.Response) -> AsyncGenerator[dict[str, Any] | Finished]:
        """The choices of a streamed answer, and then its end; closes the response."""
        reason, usage = None, None
        async with aclosing(response):
            with self.failures():
                async for event in httpx2.EventSource(response):
                    if event.data == "[DONE]":
                        continue  # to the end, or the connection could not be used again
                    chunk = cast(Any, event.json())
                    if "error" in chunk:
                        raise self.failed(complaint(chunk))
                    if told := chunk.get("usage"):
                        usage = Usage(told["prompt_tokens"], told["completion_tokens"])
                    for choice in chunk["choices"]:
                        reason = choice["finish_reason"] or reason
                        yield choice
        if reason not in ("stop", "length") or usage is None:
            raise self.failed("the answer broke off")
        yield Finished(reason, usage)

    async def post(self, path: str, body: bytes) -> httpx2.Response:
        session = session_id.get()

        def send() -> Any:
            headers = {"Content-Type": "application/json"} | ({SESSION: session} if session else {})
            request = self._http.build_request("POST", path, content=body, headers=headers)
            return self._http.send(request, stream=True)

        with self.failures():
            try:
                return cast(httpx2.Response, await send())
            except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):
                return cast(httpx2.Response, await send())  # the server closed a kept connection just then

    async def finished(self, response: httpx2.Response) -> Any:
        """The whole of a good answer."""
        if not response.is_success:
            raise await self.refusal(response)
        async with aclosing(response):
            with self.failures():
                await response.aread()
                return response.json()

    async def refusal(self, response: httpx2.Response) -> PartFailed:
        async with aclosing(response):
            with self.failures():
                await response.aread()
        return self.failed(f"{response.status_code}, {complaint(response.text)}")

    def failed(self, what: str) -> PartFailed:
        return PartFailed(PART, f"{self.name}: {what}")

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Tell whatever goes wrong with the network or the form of an answer as a failure of this part."""
        try:
            yield
        except httpx2.HTTPError as exc:
            self._lose()
            raise self.failed(f"cannot be reached ({type(exc).__name__} {exc})".replace(" )", ")")) from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise self.failed(f"this is no answer of vLLM 0.32 ({type(exc).__name__} {exc})") from exc

    async def _watch(self) -> None:
        try:
            while True:
                await asyncio.sleep(WATCH_S)
                try:
                    self.up = (await self._http.get("/health", timeout=CONNECT_LIMIT_S)).is_success
                    if self.up:
                        await self._weigh()
                except httpx2.HTTPError:
                    self._lose()
                except Exception:  # nobody awaits this task: if it ended, the server would stay as it was for ever
                    if self.up:
                        log.exception("asking %s at %s whether it is well", self.name, self._address)
                    self._lose()
        finally:
            await self._http.aclose()

    async def _weigh(self) -> None:
        """Ask how many requests the server has, where it says so."""
        answer = await self._http.get("/metrics", timeout=CONNECT_LIMIT_S)
        if answer.is_success and (found := REQUESTS.findall(answer.text)):
            self._on_load(sum(map(float, found)))

    def _lose(self) -> None:
        if self.up:
            log.warning("%s at %s cannot be reached", self.name, self._address)  # users are told the name only
        self.up = False
        self._on_lost()


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

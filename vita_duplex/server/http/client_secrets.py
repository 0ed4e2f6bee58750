"""`POST /v1/realtime/client_secrets`: a key of short life that may be given to a browser."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from vita_duplex.engine.messages import Tools
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.conversation import NO_ASR
from vita_duplex.server.realtime.items import Json
from vita_duplex.server.realtime.tools import read_tools
from vita_duplex.server.server import Server


class ExpiresAfter(BaseModel):
    """OpenAI's bounds: ten seconds to two hours."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(600, ge=10, le=7200)


class SecretRequest(BaseModel):
    """What the key is for. Sessions opened with it begin with the settings of `session`."""

    model_config = ConfigDict(extra="forbid")

    expires_after: ExpiresAfter = ExpiresAfter()
    session: SessionUpdateFields | None = None


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/realtime/client_secrets", responses={"4XX": {"description": "an error in OpenAI's form"}})
    async def create(request: SecretRequest, caller: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
        """An ephemeral key: browsers send it as the WebSocket subprotocol `openai-insecure-api-key.KEY`.

        What is used with it counts for the key that asked for it. It opens any number of sessions until it expires,
        will do for chats and speech, and cannot ask for further keys.
        """
        value, expires = server.access.issue(caller.key, request.session, request.expires_after.seconds, time.time())
        wanted: Json = {"type": "realtime"}
        if request.session:
            wanted |= request.session.model_dump(exclude_none=True)
            if request.session.type == "transcription" and server.parts and server.parts.transcriber is None:
                raise ClientError(NO_ASR.code, NO_ASR.message, param="session.type")
        if "tools" in wanted:
            parts = server.parts
            if parts is None or not parts.can_call(next(iter(parts.pools))):
                wanted["tools"] = []
            else:
                read_tools(wanted["tools"], wanted.get("tool_choice"), None, Tools(), "session.")
        session = {**wanted, "id": "", "object": "realtime.session", "model": server.config.model_name}
        return {"value": value, "expires_at": int(expires), "session": session}

    return routes

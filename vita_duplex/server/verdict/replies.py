"""The replies of an application, as far as it tells of them. Pure but for the queue of their words."""

import asyncio
from dataclasses import dataclass, field

from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.client_events import TEXT_LIMIT


@dataclass(slots=True)
class TheirReply:
    """A reply that the application gives."""

    reply_id: str | None
    utterance: int
    """The number under which the session knows the beginning of it."""
    turn: int | None = None
    words: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    told: int = 0
    """Characters."""


class TheirReplies:
    """At most one is under way. Errors of all methods: `ClientError`."""

    def __init__(self) -> None:
        self.reply: TheirReply | None = None
        self._stopped = False  # the last one, by us: what the application says of it crosses our event

    def start(self, reply_id: str | None, utterance: int) -> TheirReply:
        """A reply that begins ends the one before."""
        self.end()
        self._stopped = False
        self.reply = TheirReply(reply_id, utterance)
        return self.reply

    def say(self, words: str, event_id: str | None) -> None:
        if (reply := self._named(None, event_id)) is None:
            return
        if reply.told + len(words) > TEXT_LIMIT:
            message = f"a reply may have {TEXT_LIMIT} characters; these are left out"
            raise ClientError("reply_too_long", message, param="delta", event_id=event_id)
        reply.told += len(words)
        reply.words.put_nowait(words)

    def finish(self, reply_id: str | None, event_id: str | None) -> None:
        """The application says that a reply is over."""
        if self._named(reply_id, event_id):
            self.end()

    def stop(self, turn: int) -> TheirReply | None:
        """The session has ended a turn; return the reply if it was this one."""
        reply = self.reply
        if reply is None or reply.turn != turn:
            return None
        self.reply, self._stopped = None, True
        return reply

    def end(self) -> None:
        if self.reply:
            self.reply.words.put_nowait(None)
            self.reply = None

    def _named(self, reply_id: str | None, event_id: str | None) -> TheirReply | None:
        """The reply that is meant; None: it was stopped."""
        reply = self.reply
        if reply is None and self._stopped:
            return None
        if reply is None:
            raise ClientError("no_reply", "There is no reply under way; say reply.started first.", event_id=event_id)
        if reply_id is not None and reply_id != reply.reply_id:
            message = f"{reply_id!r} is not the reply under way."
            raise ClientError("no_reply", message, param="reply_id", event_id=event_id)
        return reply

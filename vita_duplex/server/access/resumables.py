"""Who may come back to a session after its connection broke. Pure."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Session = TypeVar("Session")


class Resumables(Generic[Session]):
    """Sessions by their token, of which only a hash is kept, and the key that opened them."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, tuple[str | None, Session]] = {}

    @contextmanager
    def holding(self, token: str | None, key: str | None, session: Session) -> Iterator[None]:
        """Let whoever has the token and the key find the session meanwhile; nobody if there is no token."""
        if token is None:
            yield
            return
        self._sessions[_digest(token)] = mine = key, session
        try:
            yield
        finally:
            if self._sessions.get(_digest(token)) is mine:  # not another one's of the same name
                del self._sessions[_digest(token)]

    def find(self, token: str, key: str | None) -> Session | None:
        """The session, if it is that key's."""
        owner, session = self._sessions.get(_digest(token), (None, None))
        return session if owner == key else None


def new_token() -> str:
    return secrets.token_urlsafe(24)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

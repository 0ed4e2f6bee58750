"""Logging: lines that say which session they are about, as text or JSON. Words and audio of users are in no log."""

import logging
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

from vita_duplex.engine.session_id import session_id

__all__ = ["configure", "session_id"]


def _add_session(record: logging.LogRecord) -> bool:
    record.session = session_id.get()
    return True


def configure(style: Literal["text", "json"]) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_session)
    if style == "json":
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        fields = "%(asctime)s %(levelname)s %(name)s %(session)s %(message)s"
        handler.setFormatter(JsonFormatter(fields, rename_fields=renamed, datefmt="%Y-%m-%dT%H:%M:%S%z"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])

"""The server behind the endpoints, as it comes up."""

import asyncio
import gc

from tests.support.sockets import scripted_server
from vita_duplex.server.server import Server


def test_what_is_loaded_is_left_out_of_garbage_collections() -> None:
    loaded = scripted_server()
    assert loaded.parts is not None
    server = Server(loaded.config, lambda *_: loaded.parts)
    before = gc.get_freeze_count()
    try:
        asyncio.run(server.bring_up())
        assert server.parts is loaded.parts
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()

"""The server behind the endpoints, as it comes up."""

import asyncio
import gc

from tests.support.sockets import scripted_server
from vita_duplex.server.server import Server


def test_what_is_loaded_is_left_out_of_garbage_collections() -> None:
    loaded = scripted_server()
    assert loaded.parts is not None
    server = Server(loaded.config, lambda *_: loaded.parts)

    def is_collected() -> bool:
        return any(one is loaded.parts.pool for one in gc.get_objects())  # type: ignore[union-attr]

    assert is_collected()
    try:
        asyncio.run(server.bring_up())
        assert server.parts is loaded.parts
        assert not is_collected()
    finally:
        gc.unfreeze()

"""Requests of no session: each is asked of the instance with the least to do, and of another if that one fails."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import Instance, PartFailed, Unanswerable
from vita_duplex.server.errors import ClientError

Item = TypeVar("Item")


async def ask(pool: Pool, begin: Callable[[Instance], AsyncGenerator[Item]]) -> AsyncGenerator[Item]:
    """What the first instance says that does not fail before its first word. Errors: `ClientError`, `PartFailed`."""
    tried: set[str] = set()
    last = PartFailed("engine", "none is running")
    while True:
        with pool.lend(tried) as instance:
            if instance is None:
                raise last
            begun = False
            try:
                async with aclosing(begin(instance)) as items:
                    async for item in items:
                        begun = True
                        yield item
                return
            except Unanswerable as reason:
                raise ClientError("invalid_request", str(reason), param="messages") from reason
            except PartFailed as failure:
                pool.report("failing", instance, asyncio.get_running_loop().time())
                if begun:
                    raise
                tried.add(instance.name)
                last = failure

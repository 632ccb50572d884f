"""Iteration in both ways: `for` and `async for` over one asynchronous source."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Both(ABC, Generic[T]):
    """What can be iterated with `async for`, and with `for`: its loop then runs on a thread of its own."""

    @abstractmethod
    def _items(self) -> AsyncGenerator[T, None]: ...

    def __aiter__(self) -> AsyncGenerator[T, None]:
        return self._items()

    def __iter__(self) -> Iterator[T]:
        return _plain(self._items)


class _End:
    pass


def _plain(items: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cloudpose", daemon=True)
    thread.start()
    generator = items()
    running: set[asyncio.Task[object]] = set()

    async def following() -> T | _End:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            return await anext(generator)
        except StopAsyncIteration:
            return _End()
        finally:
            running.discard(task)

    async def close() -> None:
        for task in list(running):
            task.cancel()
            await asyncio.wait({task})
        with suppress(Exception):
            await generator.aclose()
        await loop.shutdown_default_executor()

    try:
        while True:
            item = asyncio.run_coroutine_threadsafe(following(), loop).result()
            if isinstance(item, _End):
                return
            yield item
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

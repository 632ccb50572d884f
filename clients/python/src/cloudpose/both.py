"""Iteration in both ways: `for` and `async for` over one asynchronous source."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Both(ABC, Generic[T]):
    """What can be iterated with `async for`, and with `for`: its loop then runs on a thread of its own."""

    @abstractmethod
    def _items(self) -> AsyncGenerator[T, None]: ...

    def __aiter__(self) -> AsyncGenerator[T, None]:
        return self._items()

    def __iter__(self) -> Iterator[T]:
        return _plain(self._items)


@dataclass(frozen=True)
class _End:
    """There are no more items. What was raised comes to the caller in here: `SystemExit` would end the thread of the loop."""

    error: BaseException | None = None


class _Threads(ThreadPoolExecutor):
    """Makes calls on daemon threads. Those of asyncio's own executor cannot begin once the program's main thread has come to
    its end, though others may still be at work."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._workers: list[threading.Thread] = []

    def submit(self, call: Callable[..., R], /, *args: Any, **options: Any) -> Future[R]:
        future: Future[R] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args, **options))
            except BaseException as error:
                future.set_exception(error)

        self._calls.put(run)
        if not self._idle.acquire(blocking=False):
            worker = threading.Thread(target=self._work, name="cloudpose-call", daemon=True)
            worker.start()
            self._workers.append(worker)
        return future

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()
            self._idle.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for _ in self._workers:
            self._calls.put(None)
        for worker in self._workers if wait else []:
            worker.join()


def _plain(items: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    loop = asyncio.new_event_loop()
    threads = _Threads()
    loop.set_default_executor(threads)
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
        except BaseException as error:
            return _End(error)
        finally:
            running.discard(task)

    async def close() -> None:
        for task in list(running):
            task.cancel()
            await asyncio.wait({task})
        with suppress(Exception):
            await generator.aclose()

    try:
        while True:
            item = asyncio.run_coroutine_threadsafe(following(), loop).result()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        # Here, since the loop's own way to end it begins a thread.
        threads.shutdown()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

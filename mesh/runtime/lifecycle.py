"""The life of a process: parts start in order, SIGTERM -> drain -> stop, with a deadline.

Shared by the control-plane roles. A part is up to four coroutine functions: `start` returns
when the part works, `run` goes on until the process ends, `drain` finishes what runs and takes
nothing new, `stop` frees what is left. What a part does is its own affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from mesh.core.errors import ConfigError, MeshError

DRAIN_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0

Step = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One part of a process; each step may be missing."""

    name: str
    start: Step | None = None
    run: Callable[[], Coroutine[Any, Any, None]] | None = None
    drain: Step | None = None
    stop: Step | None = None


class Lifecycle:
    """The parts of one process and where it stands between start and end."""

    def __init__(
        self, *, drain_seconds: float = DRAIN_SECONDS, stop_seconds: float = STOP_SECONDS
    ) -> None:
        self._drain_seconds = drain_seconds
        self._stop_seconds = stop_seconds
        self._parts: list[Part] = []
        self._claims: list[tuple[str, Callable[[], bool]]] = []
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._ended = asyncio.Event()
        self._signals = 0
        self._failed = False
        self._started = False

    def add(
        self,
        name: str,
        *,
        start: Step | None = None,
        run: Callable[[], Coroutine[Any, Any, None]] | None = None,
        drain: Step | None = None,
        stop: Step | None = None,
    ) -> None:
        """Add a part; parts start in the order in which they were added and end in reverse."""
        self._parts.append(Part(name, start, run, drain, stop))

    def require(self, name: str, claim: Callable[[], bool]) -> None:
        """Readiness needs `claim` to hold; `name` is what /ready prints while it does not."""
        self._claims.append((name, claim))

    def waiting_for(self) -> list[str]:
        """What keeps the process from being ready; empty means ready."""
        if self._ended.is_set():
            return ["stopping"]
        waiting = [] if self._started else ["start"]
        return waiting + [name for name, claim in self._claims if not claim()]

    def end(self) -> None:
        """Ask the process to drain and stop, as SIGTERM does."""
        self._ended.set()

    async def run(self) -> int:
        """Live from first start to last stop. The exit code: 0 when asked to end, else 1."""
        with _signals(self._on_signal):
            begun: list[Part] = []
            try:
                for part in self._parts:
                    begun.append(part)
                    if not await self._begin(part):
                        break
                else:
                    self._started = True
                    log.info("started parts=%s", ",".join(part.name for part in begun))
                await self._ended.wait()
            finally:
                self._ended.set()
                await self._finish(begun)
        return 1 if self._failed else 0

    async def _begin(self, part: Part) -> bool:
        """Start one part; False when it failed or the process was asked to end meanwhile."""
        if part.start is not None:
            start = asyncio.ensure_future(part.start())
            ended = asyncio.ensure_future(self._ended.wait())
            await asyncio.wait((start, ended), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not start.done():
                start.cancel()
                await asyncio.wait((start,), timeout=self._stop_seconds)
                return False
            if start.exception() is not None:
                self._fail(part.name, "start", start.exception())
                return False
        if part.run is not None:
            task = asyncio.create_task(part.run(), name=part.name)
            self._tasks[task] = part.name
            task.add_done_callback(self._on_task_done)
        return not self._ended.is_set()

    async def _finish(self, begun: list[Part]) -> None:
        for part in reversed(begun):
            await self._within(part.name, "drain", part.drain, self._drain_seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._stop_seconds)
        for part in reversed(begun):
            await self._within(part.name, "stop", part.stop, self._stop_seconds)
        log.info("stopped")

    async def _within(self, name: str, what: str, step: Step | None, seconds: float) -> None:
        if step is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await step()
        except TimeoutError:
            log.warning("%s not finished part=%s seconds=%s", what, name, seconds)
        except Exception:
            log.exception("%s failed part=%s", what, name)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._ended.is_set():
            return
        error = task.exception() or RuntimeError("it ended by itself")
        self._fail(self._tasks[task], "run", error)

    def _fail(self, name: str, what: str, error: BaseException | None) -> None:
        self._failed = True
        if isinstance(error, MeshError):
            log.error("%s failed part=%s error=%s", what, name, error)
        else:
            log.error("%s failed part=%s", what, name, exc_info=error)
        self._ended.set()

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            log.info("asked to end")
            self._ended.set()
        else:  # a second one means now
            for task in asyncio.all_tasks():
                task.cancel()


def run_role(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a role's main coroutine on uvloop where there is one, and give its exit code.

    A ConfigError prints each fault on a line of its own and exits 1, without a traceback.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main())
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def _signals(handler: Callable[[], None]) -> Any:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    installed = []
    for number in numbers:
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, handler)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)

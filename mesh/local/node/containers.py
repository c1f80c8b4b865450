"""One container of a pod: started, probed, stopped, as often as the worker says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mesh.local.node import podplan, probes
from mesh.local.node.capabilities import CreateError
from mesh.local.node.context import Node
from mesh.local.node.logs import Drain, LogFile
from mesh.local.node.podstate import Record, State, ended, is_sidecar
from mesh.local.node.podstatus import terminated
from mesh.local.node.probing import Counter
from mesh.local.node.spawn import Ended, Process, SpawnError

Object = dict[str, Any]
_MESSAGE_MOST = 4096  # bytes of a termination message
_CONFIG_RETRY = 2.0  # seconds until a container with a broken spec is tried again
_HOOK_REST = 2.0  # seconds that a process has after a preStop that used up the grace period

log = logging.getLogger(__name__)


class PodView(Protocol):
    """What a container sees of its pod."""

    node: Node
    pod: Object
    folder: Path
    network: int

    @property
    def address(self) -> str: ...

    def changed(self) -> None:
        """Something about a container changed: look again, publish the status."""


class Container:
    """One container of one pod. `record` is its state; probes and hooks run inside."""

    def __init__(self, view: PodView, spec: Object, *, init: bool) -> None:
        self.view = view
        self.spec = spec
        self.init = init
        self.record = Record(spec["name"])
        self._process: Process | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._plan: Object = {}
        self._base: Path | None = None
        self._drain: Drain | None = None
        self._attempt = 0
        self._stop_reason = ""
        self._stopping: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.gone.set()

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def _path(self) -> str:
        kind = "initContainers" if self.init else "containers"
        return f"spec.{kind}{{{self.name}}}"

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self.view.node.recorder.event(
            self.view.pod, reason, message, warning=warning, path=self._path
        )

    # -- start ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the container, run its postStart hook, and mark it running. Never raises."""
        record = self.record
        try:
            self._prepare()
        except (CreateError, OSError) as error:
            self._not_created(error)
            return
        if record.state is State.TERMINATED:
            record.last = terminated(record)
            record.restarts += 1
        record.state, record.reason, record.message = State.WAITING, "ContainerCreating", ""
        record.container_id = f"mesh://{uuid.uuid4().hex}"
        record.started_at = time.time()
        self._stop_reason = ""
        try:
            await self._spawn()
        except SpawnError as error:
            self._not_started(error)
            return
        self._event("Started", f"Started container {self.name}")
        if not await self._post_start():
            return
        if self._process is not None and not self._process.ended.done():
            record.state, record.reason = State.RUNNING, ""
            self._after_start()
        self.view.changed()

    def _prepare(self) -> None:
        node, view = self.view.node, self.view
        self._attempt += 1
        self._base = view.folder / "containers" / f"{self.name}.{self._attempt}"
        self._base.mkdir(parents=True, exist_ok=True)
        message = self._base / "message"
        message.touch()
        message.chmod(0o666)
        self._plan = podplan.container_plan(
            node, view.pod, self.spec, folder=view.folder, base=self._base
        )

    def _not_created(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, CreateError) else "CreateContainerError"
        if reason == "FailedMount":
            reason = "CreateContainerConfigError"
        record = self.record
        if (record.reason, record.message) != (reason, str(error)):
            self._event("Failed", f"Error: {error}", warning=True)
        if record.state is State.TERMINATED:
            record.last = terminated(record)
        record.state, record.reason, record.message = State.WAITING, reason, str(error)
        record.retry_at = time.time() + _CONFIG_RETRY
        self._clean()
        self.view.changed()

    def _not_started(self, error: SpawnError) -> None:
        self._event("Failed", f"Error: {error}", warning=True)
        reason = "StartError" if error.stage == "exec" else "ContainerCannotRun"
        self._finish(Ended(128, 0), reason, str(error))

    async def _spawn(self) -> None:
        node, view = self.view.node, self.view
        meta = view.pod["metadata"]
        path = node.logs / meta["namespace"] / meta["name"] / f"{self.name}.log"
        with contextlib.suppress(OSError):
            if path.exists():
                path.replace(path.with_name(f"{self.name}.previous.log"))
        reading, writing = os.pipe2(os.O_CLOEXEC)
        drain = Drain(reading, LogFile(path))
        try:
            process = await self._start_whole((writing, writing))
        except BaseException:
            os.close(writing)
            drain.close()
            raise
        os.close(writing)
        self._drain, self._process = drain, process
        self.gone.clear()
        process.ended.add_done_callback(self._on_end)

    async def _start_whole(self, output: tuple[int, int]) -> Process:
        """Start the process; when this is cancelled half-way, none is left behind."""
        work = self.view.node.spawner.start(self._plan, output, self.view.network)
        task = asyncio.get_running_loop().create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            with contextlib.suppress(SpawnError):
                process = await task
                process.send(signal.SIGKILL)
                await process.ended
            raise

    async def _post_start(self) -> bool:
        hook = (self.spec.get("lifecycle") or {}).get("postStart")
        if not hook:
            return True
        failure = await self._hook(hook, None)
        if failure is None or self._process is None or self._process.ended.done():
            return self._process is not None
        self._event("FailedPostStartHook", f"PostStartHook failed: {failure}", warning=True)
        await self.stop(self._grace(), reason="FailedPostStartHook")
        return False

    def _after_start(self) -> None:
        if self.spec.get("startupProbe"):
            self._run(self._startup())
        else:
            self._is_started()

    def _is_started(self) -> None:
        self.record.started = True
        if self.spec.get("readinessProbe"):
            self._run(self._readiness())
        else:
            self.record.ready = True
        if self.spec.get("livenessProbe"):
            self._run(self._liveness())
        self.view.changed()

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- probes --------------------------------------------------------------------------

    async def _probe(self, kind: str, note: Callable[[bool | None], bool], *, eager: bool) -> None:
        """Attempt until `note` (called with the verdict) says stop."""
        probe = self.spec[f"{kind}Probe"]
        loop = asyncio.get_running_loop()
        counter = Counter(probe, now=loop.time(), eager=eager)
        next_at = counter.first_at
        while True:
            await asyncio.sleep(max(0.0, next_at - loop.time()))
            due = loop.time()
            failure = await probes.attempt(probe, self.view.address, self.spec, self.execute)
            verdict = counter.noted(failure is None, now=due)
            if failure is not None and verdict.counted:
                text = f"{kind.capitalize()} probe failed: {failure}"
                self._event("Unhealthy", text, warning=True)
            if note(verdict.passing):
                return
            next_at = max(verdict.next_at, loop.time())

    async def _startup(self) -> None:
        def note(passing: bool | None) -> bool:
            if passing is True:
                self._is_started()
            elif passing is False:
                self._kill("startup", self.spec["startupProbe"])
            return passing is not None

        await self._probe("startup", note, eager=True)

    async def _readiness(self) -> None:
        def note(passing: bool | None) -> bool:
            if passing is not None and passing != self.record.ready:
                self.record.ready = passing
                self.view.changed()
            return False

        await self._probe("readiness", note, eager=True)

    async def _liveness(self) -> None:
        def note(passing: bool | None) -> bool:
            if passing is False:
                self._kill("liveness", self.spec["livenessProbe"])
            return passing is False

        await self._probe("liveness", note, eager=False)

    def _kill(self, kind: str, probe: Object) -> None:
        text = f"Container {self.name} failed {kind} probe, will be restarted"
        self._event("Killing", text)
        own = probe.get("terminationGracePeriodSeconds")
        grace = self._grace() if own is None else float(own)
        task = asyncio.get_running_loop().create_task(self.stop(grace))
        self._stopping = task

    def _grace(self) -> float:
        value = self.view.pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if value is None else float(value)

    # -- commands and hooks ----------------------------------------------------------------

    async def execute(self, argv: list[str], seconds: float | None) -> tuple[int, str]:
        """Run a command inside; its exit code and the first of its output.

        Raises OSError when it cannot be started, TimeoutError after `seconds`.
        """
        if self._process is None or self._process.ended.done() or not argv:
            raise OSError("the container is not running")
        reading, writing = os.pipe2(os.O_CLOEXEC)
        lines = _Tail(reading)
        try:
            plan = {**self._plan, "argv": argv}
            try:
                process = await self.view.node.spawner.execute(
                    plan, (writing, writing), self._process.pid
                )
            except SpawnError as error:
                raise OSError(str(error)) from error
            finally:
                os.close(writing)
            try:
                async with asyncio.timeout(seconds):
                    done = await asyncio.shield(process.ended)
            except BaseException:
                process.send(signal.SIGKILL)
                raise
            return done.code, lines.text()
        finally:
            lines.close()

    async def run_inside(self, argv: Sequence[str], streams: tuple[int, int, int]) -> int:
        """Run a command with these streams until it ends; its exit code. Raises OSError."""
        if self._process is None or self._process.ended.done():
            raise OSError(f"container not found: {self.name} is not running")
        plan = {**self._plan, "argv": list(argv)}
        try:
            process = await self.view.node.spawner.execute(
                plan, streams[1:], self._process.pid, streams[0]
            )
        except SpawnError as error:
            raise OSError(str(error)) from error
        try:
            return (await asyncio.shield(process.ended)).code
        except BaseException:
            process.send(signal.SIGKILL)
            raise

    async def _hook(self, hook: Object, seconds: float | None) -> str | None:
        try:
            async with asyncio.timeout(seconds):
                if "exec" in hook:
                    code, text = await self.execute(list(hook["exec"]["command"]), seconds)
                    return None if code == 0 else f"exit code {code}: {text.strip()[:256]}"
                if "httpGet" in hook:
                    return await probes.http(self.view.address, self.spec, hook["httpGet"])
                if "sleep" in hook:
                    await asyncio.sleep(float(hook["sleep"].get("seconds") or 0))
                return None
        except TimeoutError:
            return "no end within the grace period"
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            return str(error)

    # -- end -----------------------------------------------------------------------------

    async def stop(self, grace: float, *, reason: str = "") -> None:
        """preStop, SIGTERM, and SIGKILL when `grace` seconds are over. Returns when it is gone."""
        process = self._process
        if process is None:
            return
        self._cancel_probes()
        self._stop_reason = reason
        deadline = time.monotonic() + grace
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0 and not process.ended.done():
            failure = await self._until_end(process, self._hook(hook, grace))
            if failure:
                self._event("FailedPreStopHook", f"PreStopHook failed: {failure}", warning=True)
        left = deadline - time.monotonic()
        if grace > 0:
            process.send(signal.SIGTERM)
            await asyncio.wait([process.ended], timeout=max(left, _HOOK_REST if hook else 0.0))
        process.send(signal.SIGKILL)
        await self.gone.wait()

    async def _until_end(self, process: Process, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, process.ended], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()

    def kill(self) -> None:
        """SIGKILL now; for a pod that was removed without grace."""
        if self._process is not None:
            self._process.send(signal.SIGKILL)

    def _cancel_probes(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()

    def _on_end(self, future: asyncio.Future[Ended]) -> None:
        self._finish(future.result(), self._stop_reason, "")

    def _finish(self, end: Ended, reason: str, message: str) -> None:
        self._cancel_probes()
        if self._drain is not None:
            self._drain.close()
            self._drain = None
        self._process = None
        ended(
            self.record,
            code=end.code,
            signal=end.signal,
            reason=reason,
            message=message or self._message(end),
            now=time.time(),
        )
        if self.record.retry_at > time.time() and (not self.init or is_sidecar(self.spec)):
            text = f"Back-off restarting failed container {self.name} in pod"
            self._event("BackOff", f"{text} {self.view.pod['metadata']['name']}", warning=True)
        self._clean()
        self.gone.set()
        self.view.changed()

    def _message(self, end: Ended) -> str:
        if self._base is None:
            return ""
        try:
            with open(self._base / "message", "rb") as file:
                text = file.read(_MESSAGE_MOST)
        except OSError:
            return ""
        if not text and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            return self._last_log_lines() if end.code else ""
        return text.decode(errors="replace")

    def _last_log_lines(self) -> str:
        meta = self.view.pod["metadata"]
        logs = self.view.node.logs / meta["namespace"] / meta["name"] / f"{self.name}.log"
        try:
            with open(logs, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2048))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(line.partition(" ")[2] for line in lines)

    def _clean(self) -> None:
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)
            self._base = None


class _Tail:
    """The first few kilobytes of what a command prints; the rest is read and dropped."""

    def __init__(self, reading: int) -> None:
        os.set_blocking(reading, False)
        self._reading = reading
        self._kept = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(reading, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._reading, 65536)
        except BlockingIOError:
            return
        self._kept = (self._kept + data)[:8192]
        if not data:
            self._loop.remove_reader(self._reading)

    def text(self) -> str:
        """What came so far."""
        with contextlib.suppress(OSError):
            while data := os.read(self._reading, 65536):
                self._kept = (self._kept + data)[:8192]
        return self._kept.decode(errors="replace")

    def close(self) -> None:
        self._loop.remove_reader(self._reading)
        os.close(self._reading)

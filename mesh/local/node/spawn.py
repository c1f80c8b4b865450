"""The daemon's side of PID 1: ask for sandboxes, containers and commands, learn of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import MeshError

_UNCLAIMED = 512  # exits kept for processes whose start report has not been read yet


class SpawnError(MeshError):
    """A process could not be started. `stage` is setup or exec."""

    def __init__(self, message: str, stage: str) -> None:
        self.stage = stage
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: an exit code, 128 + signal as shells count, and the signal or 0."""

    code: int
    signal: int

    @classmethod
    def of(cls, status: int) -> Ended:
        """From a wait status."""
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return cls(128 + number, number)
        return cls(os.WEXITSTATUS(status), 0)


class Process:
    """A process that PID 1 started; `ended` resolves when it was reaped."""

    __slots__ = ("_pidfd", "ended", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            self._pidfd = -1

    def send(self, number: int) -> None:
        """Send a signal; nothing happens once the process is gone."""
        if self._pidfd >= 0 and not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def finish(self, ended: Ended) -> None:
        """Called by the spawner alone."""
        if not self.ended.done():
            self.ended.set_result(ended)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class Spawner:
    """Requests to PID 1 over its control socket. Belongs to one event loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        control.setblocking(False)
        self._processes: dict[int, Process] = {}
        self._unclaimed: OrderedDict[int, Ended] = OrderedDict()
        asyncio.get_running_loop().add_reader(control.fileno(), self._read_exits)

    def close(self) -> None:
        """Stop listening for exits."""
        asyncio.get_running_loop().remove_reader(self._control.fileno())

    def _read_exits(self) -> None:
        while True:
            try:
                packet = self._control.recv(4096)
            except BlockingIOError:
                return
            if not packet:
                self.close()
                return
            fields = json.loads(packet)
            ended = Ended.of(fields["status"])
            process = self._processes.pop(fields["pid"], None)
            if process is not None:
                process.finish(ended)
                continue
            self._unclaimed[fields["pid"]] = ended
            if len(self._unclaimed) > _UNCLAIMED:
                self._unclaimed.popitem(last=False)

    async def _ask(self, request: dict[str, Any], plan: dict[str, Any], fds: list[int]) -> Report:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        memory = os.memfd_create("plan", os.MFD_CLOEXEC)
        try:
            os.write(memory, json.dumps(plan).encode())
            packet = json.dumps(request).encode()
            while True:
                try:
                    socket.send_fds(self._control, [packet], [theirs.fileno(), memory, *fds])
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(memory)
            theirs.close()
        return Report(ours)

    async def sandbox(self, link: str, addresses: tuple[str, str], node: tuple[str, str]) -> int:
        """Make a pod's network namespace; returns an fd that keeps it alive."""
        plan = {"link": link, "addresses": addresses, "node": node}
        report = await self._ask({"op": "sandbox"}, plan, [])
        with contextlib.closing(report):
            fields, fds = await report.read()
            if fields is None or "error" in fields or not fds:
                raise SpawnError((fields or {}).get("error", "the sandbox helper died"), "setup")
            return fds[0]

    async def start(self, plan: dict[str, Any], output: tuple[int, int], network: int) -> Process:
        """Start a container. Raises SpawnError; the process is running when this returns."""
        report = await self._ask({"op": "start"}, plan, [*output, network])
        return await self._started(report)

    async def execute(
        self, plan: dict[str, Any], output: tuple[int, int], target: int, given: int = -1
    ) -> Process:
        """Run a command in the container whose first process is `target`; `given` is its stdin."""
        fds = [*output] if given < 0 else [*output, given]
        report = await self._ask({"op": "execute", "target": target}, plan, fds)
        return await self._started(report)

    async def _started(self, report: Report) -> Process:
        process: Process | None = None
        failure: dict[str, Any] | None = None
        with contextlib.closing(report):
            while True:
                fields, _ = await report.read()
                if fields is None:
                    break
                if "pid" in fields:
                    process = self._register(fields["pid"])
                else:
                    failure = fields
        if failure is not None:
            raise SpawnError(failure["error"], failure["stage"])
        if process is None:
            raise SpawnError("the starting process died", "setup")
        return process

    def _register(self, pid: int) -> Process:
        process = Process(pid)
        ended = self._unclaimed.pop(pid, None)
        if ended is not None:
            process.finish(ended)
        else:
            self._processes[pid] = process
        return process


class Report:
    """The reading end of one request's report socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    async def read(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next packet and its descriptors; (None, []) at the end."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                packet, fds, _, _ = socket.recv_fds(self._channel, 65536, 4)
            except BlockingIOError:
                ready: asyncio.Future[None] = loop.create_future()
                loop.add_reader(self._channel.fileno(), _resolve, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(self._channel.fileno())
                continue
            for fd in fds:
                os.set_inheritable(fd, False)
            return (json.loads(packet) if packet else None), list(fds)

    def close(self) -> None:
        self._channel.close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

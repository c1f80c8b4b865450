"""PID 1 of the node: reaps every orphan, and forks what the daemon asks for.

A single-threaded loop over two things: SIGCHLD, and a socket to the daemon. A request is one
packet {"op": ...} with file descriptors: the report socket, a memory file with the plan, and what
the operation needs. Exits of containers go back as {"pid": N, "status": S} packets. When the
daemon ends, PID 1 ends, and the kernel ends everything else.

Requests: sandbox [report, plan]; start [report, plan, stdout, stderr, network];
execute [report, plan, stdout, stderr, perhaps stdin] with "target", the container's PID 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from mesh.local.node import container, links

_STOP_AFTER = 5.0  # seconds that the daemon has to close its journal after SIGTERM


class Reaper:
    """The loop of PID 1. `daemon` is the pid whose end ends the node."""

    def __init__(self, control: socket.socket, daemon: int) -> None:
        self._control = control
        self._daemon = daemon
        self._helpers: set[int] = set()
        self._daemon_status: int | None = None
        self._stopping = False

    def run(self) -> int:
        """Serve until the daemon has ended; returns its exit code."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while True:
            self._reap()
            if self._daemon_status is not None:
                return os.waitstatus_to_exitcode(self._daemon_status)
            for fd, _ in poll.poll(_STOP_AFTER * 1000 if self._stopping else None) or [(-1, 0)]:
                if fd == reading:
                    with contextlib.suppress(BlockingIOError):
                        os.read(reading, 4096)
                elif fd == self._control.fileno():
                    if not self._serve_one():
                        poll.unregister(self._control)
                elif self._stopping:
                    return 0

    def _on_signal(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._daemon, signal.SIGTERM)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._daemon:
                self._daemon_status = status
            elif pid in self._helpers:
                self._helpers.discard(pid)
            else:
                container.report(self._control, pid=pid, status=status)

    def _serve_one(self) -> bool:
        """Answer one request; False when the daemon has closed its end."""
        packet, fds, _, _ = socket.recv_fds(self._control, 65536, 8)
        if not packet:
            return False
        try:
            request = json.loads(packet)
            operation = _OPERATIONS[request["op"]]
            pid = os.fork()
            if pid == 0:
                self._control.close()
                _child(operation, request, fds)
            self._helpers.add(pid)
        except (OSError, ValueError, KeyError) as error:
            print(f"request refused: {error}", file=sys.stderr, flush=True)
        finally:
            for fd in fds:
                os.close(fd)
        return True


Operation = Callable[[dict[str, Any], dict[str, Any], socket.socket, list[int]], None]


def _child(operation: Operation, request: dict[str, Any], fds: list[int]) -> None:
    for fd in fds:
        os.set_inheritable(fd, False)
    channel = socket.socket(fileno=fds[0])
    try:
        with open(fds[1], encoding="utf-8", closefd=False) as file:
            file.seek(0)
            plan = json.load(file)
        operation(request, plan, channel, fds[2:])
        os._exit(0)
    except BaseException as error:
        container.report(channel, error=f"{type(error).__name__}: {error}", stage="setup")
    os._exit(1)


def _sandbox(
    _: dict[str, Any], plan: dict[str, Any], channel: socket.socket, __: list[int]
) -> None:
    v4, v6 = plan["addresses"]
    node4, node6 = plan["node"]
    fd = links.set_up_pod(plan["link"], (v4, v6), (node4, node6))
    socket.send_fds(channel, [b'{"ok": true}'], [fd])


def _start(_: dict[str, Any], plan: dict[str, Any], channel: socket.socket, fds: list[int]) -> None:
    container.start(plan, channel, (fds[0], fds[1]), fds[2])


def _execute(
    request: dict[str, Any], plan: dict[str, Any], channel: socket.socket, fds: list[int]
) -> None:
    given = fds[2] if len(fds) > 2 else -1
    container.execute(plan, channel, (fds[0], fds[1]), int(request["target"]), given)


_OPERATIONS: dict[str, Operation] = {
    "sandbox": _sandbox,
    "start": _start,
    "execute": _execute,
}

"""Several processes for one proxy: the parent, which only forks and waits.

The first child talks to the control plane and to people (`proxy.first`), the others serve
traffic (`proxy.worker`). The parent never runs a loop, so that it can fork at any time with all
modules shared; it opens the listening sockets and keeps them, so that connections wait in
their queue while a worker that died is replaced. Not imported where there is one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

from mesh.runtime.listen import open_listeners
from proxy import first, worker
from proxy.memory import settle
from proxy.settings import Settings

log = logging.getLogger(__name__)

BeFirst = Callable[[Settings, Mapping[str, str], socket.socket], Coroutine[Any, Any, int]]
BeWorker = Callable[
    [Settings, socket.socket, Sequence[socket.socket], Sequence[socket.socket]],
    Coroutine[Any, Any, int],
]
YOUNG: Final = 5.0  # seconds; a worker that dies younger is replaced after a pause
PAUSE: Final = 0.5  # seconds
GRACE: Final = 2.0  # seconds that workers have to end after the first child has


@dataclass
class Listeners:
    """The sockets of one worker."""

    outbound: list[socket.socket]
    inbound: list[socket.socket]


@dataclass
class Family:
    """What the parent knows of its children."""

    settings: Settings
    environ: Mapping[str, str]
    listeners: list[Listeners]
    boss: socket.socket  # to the first child, which gets a socket of each new worker here
    be_first: BeFirst
    be_worker: BeWorker
    pids: dict[int, int] = field(default_factory=dict)  # worker's pid -> number
    born: dict[int, float] = field(default_factory=dict)


def run(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    be_first: BeFirst = first.run,
    be_worker: BeWorker = worker.run,
) -> int:
    """Be the parent until the first child has ended; its exit code."""
    listeners = _listen(settings)
    boss, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _begin_handshake()
    settle()
    family = Family(settings, environ, listeners, boss, be_first, be_worker)
    chief = _fork(lambda: _be_first(family, end))
    end.close()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: _tell(chief, signal.SIGTERM))
    for number in range(settings.workers):
        _start_worker(family, number)
    code = _watch(family, chief)
    _end_workers(family)
    return code


def _begin_handshake() -> None:
    """Have OpenSSL load its algorithms here, which every child would do for itself: 1 MB each."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    link = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=b"peer")
    with contextlib.suppress(ssl.SSLWantReadError):
        link.do_handshake()


def _listen(settings: Settings) -> list[Listeners]:
    """One set of sockets a worker; the kernel spreads connections over them."""
    found: list[Listeners] = []
    outbound_port, inbound_port = settings.outbound_port, settings.inbound_port
    for _ in range(settings.workers):
        outbound = open_listeners("127.0.0.1", outbound_port, shared=True)
        outbound_port = outbound[0].getsockname()[1]
        with contextlib.suppress(Exception):
            outbound += open_listeners("::1", outbound_port, shared=True)
        inbound = open_listeners("", inbound_port, shared=True)
        inbound_port = inbound[0].getsockname()[1]
        found.append(Listeners(outbound, inbound))
    log.info("listening outbound=%s inbound=%s workers=%d", outbound_port, inbound_port, len(found))
    return found


def _watch(family: Family, chief: int) -> int:
    """Replace workers that die, until the first child ends."""
    while True:
        pid, status = os.waitpid(-1, 0)
        code = os.waitstatus_to_exitcode(status)
        if pid == chief:
            return code if code >= 0 else 1
        number = family.pids.pop(pid, None)
        if number is None:
            continue  # not a child of ours: an orphan, where we are process 1
        if code == 0:
            continue  # it was told to end
        log.error("worker died number=%d pid=%d code=%d", number, pid, code)
        if time.monotonic() - family.born.pop(pid) < YOUNG:
            time.sleep(PAUSE)
        _start_worker(family, number)


def _start_worker(family: Family, number: int) -> None:
    ours, theirs = socket.socketpair()
    with contextlib.suppress(OSError):  # the first child has just ended
        socket.send_fds(family.boss, [b"%d" % number], [ours.fileno()])
    pid = _fork(lambda: _be_worker(family, number, theirs))
    family.pids[pid] = number
    family.born[pid] = time.monotonic()
    ours.close()
    theirs.close()


def _end_workers(family: Family) -> None:
    """The first child has told them to end; wait, but not for ever."""
    deadline = time.monotonic() + GRACE
    while family.pids:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        family.pids.pop(pid, None)
        if not pid:
            if time.monotonic() > deadline:
                for late in family.pids:
                    _tell(late, signal.SIGKILL)
            time.sleep(0.01)


def _tell(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _fork(live: Callable[[], int]) -> int:
    """A child that lives and ends; gives its pid to the parent."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = live()
    except BaseException:
        log.exception("process ended by a bug")
    finally:
        os._exit(code)


def _be_first(family: Family, end: socket.socket) -> int:
    family.boss.close()
    for listeners in family.listeners:
        for sock in (*listeners.outbound, *listeners.inbound):
            sock.close()
    return _on_loop(family.be_first(family.settings, family.environ, end))


def _be_worker(family: Family, number: int, link: socket.socket) -> int:
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, signal.SIG_IGN)  # the first child says when to end
    family.boss.close()
    for at, listeners in enumerate(family.listeners):
        if at != number:
            for sock in (*listeners.outbound, *listeners.inbound):
                sock.close()
    mine = family.listeners[number]
    return _on_loop(family.be_worker(family.settings, link, mine.outbound, mine.inbound))


def _on_loop(work: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)

"""The log subresource: the kubelet's files, from some line on, followed if asked.

Files lie under `<logs>/<namespace>/<pod>/<container>.log`; the run before the last restart
under `<container>.previous.log`. A line may begin with an RFC 3339 time and a space, which
is cut off unless `timestamps` asks for it. Lines without one pass every `sinceTime`, but
for those of a file that was last written before.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from mesh.local.api import status
from mesh.local.api.resources import Object
from mesh.local.api.watching import is_true

_CHUNK: Final = 64 << 10
_POLL: Final = 0.1  # seconds between looks at a file that is followed
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ")


@dataclass(frozen=True, slots=True)
class LogRequest:
    """What the query of a log request says."""

    container: str
    follow: bool
    previous: bool
    timestamps: bool
    tail: int | None  # lines
    limit: int | None  # bytes
    after: float | None  # seconds since the epoch

    @classmethod
    def parse(cls, query: dict[str, str], now: float) -> LogRequest:
        """Raises ApiError 400."""
        after = None
        if query.get("sinceSeconds"):
            after = now - _number(query, "sinceSeconds", 0)
        elif query.get("sinceTime"):
            try:
                after = datetime.fromisoformat(
                    query["sinceTime"].replace("Z", "+00:00")
                ).timestamp()
            except ValueError as error:
                raise status.bad_request(f"sinceTime: {error}") from error
        return cls(
            container=query.get("container", ""),
            follow="follow" in query and is_true(query["follow"]),
            previous="previous" in query and is_true(query["previous"]),
            timestamps="timestamps" in query and is_true(query["timestamps"]),
            tail=_number(query, "tailLines", 0) if query.get("tailLines") else None,
            limit=_number(query, "limitBytes", 1) if query.get("limitBytes") else None,
            after=after,
        )


def _number(query: dict[str, str], name: str, least: int) -> int:
    text = query[name]
    if not text.isdigit() or int(text) < least:
        raise status.bad_request(f"{name}: expected a number of at least {least}, got {text!r}")
    return int(text)


def choose_container(pod: Object, wanted: str) -> str:
    """The container whose log is meant. Raises ApiError 400."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    plain = [c["name"] for c in spec.get("containers") or ()]
    first = [c["name"] for c in spec.get("initContainers") or ()]
    if not wanted and len(plain) == 1:
        wanted = plain[0]
    if not wanted:
        words = f"a container name must be specified for pod {name}, choose one of: "
        words += f"[{' '.join(plain)}]"
        if first:
            words += f" or one of the init containers: [{' '.join(first)}]"
        raise status.bad_request(words)
    if wanted not in plain + first:
        raise status.bad_request(f"container {wanted} is not valid for pod {name}")
    return wanted


def check_started(pod: Object, container: str, *, previous: bool) -> None:
    """Raises ApiError 400 while there is no log to show."""
    name = pod["metadata"]["name"]
    state = pod.get("status") or {}
    for one in (
        *(state.get("initContainerStatuses") or ()),
        *(state.get("containerStatuses") or ()),
    ):
        if one.get("name") != container:
            continue
        if previous and not one.get("restartCount"):
            words = f'previous terminated container "{container}" in pod "{name}" not found'
            raise status.bad_request(words)
        waiting = (one.get("state") or {}).get("waiting")
        if waiting is not None and not one.get("restartCount"):
            reason = waiting.get("reason") or "ContainerCreating"
            raise status.bad_request(
                f'container "{container}" in pod "{name}" is waiting to start: {reason}'
            )
        return
    raise status.bad_request(
        f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
    )


def may_write(pod: Object, container: str) -> bool:
    """Whether the container runs, or will run again."""
    state, spec = pod.get("status") or {}, pod["spec"]
    if state.get("phase") in ("Succeeded", "Failed"):
        return False
    for one in (
        *(state.get("initContainerStatuses") or ()),
        *(state.get("containerStatuses") or ()),
    ):
        if one.get("name") == container:
            ended = (one.get("state") or {}).get("terminated")
            return ended is None or spec.get("restartPolicy") == "Always"
    return True


def log_file(logs: Path, namespace: str, pod: str, container: str, *, previous: bool) -> Path:
    suffix = ".previous.log" if previous else ".log"
    return logs / namespace / pod / (container + suffix)


async def lines(
    path: Path, asked: LogRequest, is_running: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Chunks of the log as the client sees it; with `follow` until the container has ended."""
    try:
        file: BinaryIO = path.open("rb")
    except FileNotFoundError:
        return
    sent = 0
    with file:
        if asked.after is not None and not asked.follow and _is_older(file, asked.after):
            return
        if asked.tail is not None:
            _seek_tail(file, asked.tail)
        rest = b""
        while True:
            running = is_running()  # asked before reading: what it wrote last is not lost
            chunk = file.read(_CHUNK)
            if chunk:
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                out = _shown(whole + newline, asked)
            elif rest and not (asked.follow and running):
                out, rest = _shown(rest, asked), b""
            elif asked.follow and running:
                await asyncio.sleep(_POLL)
                file = _reopened(path, file)
                continue
            else:
                return
            if asked.limit is not None:
                out = out[: asked.limit - sent]
            if out:
                sent += len(out)
                yield out
            if asked.limit is not None and sent >= asked.limit:
                return


def _is_older(file: BinaryIO, after: float) -> bool:
    return os.fstat(file.fileno()).st_mtime < after


def _reopened(path: Path, file: BinaryIO) -> BinaryIO:
    """The file again, when the container was restarted into a new one."""
    try:
        fresh = path.stat()
    except FileNotFoundError:
        return file
    old = os.fstat(file.fileno())
    if (fresh.st_ino, fresh.st_dev) == (old.st_ino, old.st_dev):
        if fresh.st_size < file.tell():
            file.seek(0)
        return file
    if file.tell() < old.st_size:
        return file
    file.close()
    return path.open("rb")


def _seek_tail(file: BinaryIO, count: int) -> None:
    """Move to the beginning of the last `count` lines."""
    end = file.seek(0, os.SEEK_END)
    position, missing = end, count + 1
    if count == 0:
        return
    while position > 0:
        size = min(_CHUNK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        if position + size == end and not block.endswith(b"\n"):
            missing -= 1
        found = block.count(b"\n")
        if found >= missing:
            for _ in range(found - missing + 1):
                cut = block.index(b"\n") + 1
                position += cut
                block = block[cut:]
            file.seek(position)
            return
        missing -= found
    file.seek(0)


def _shown(data: bytes, asked: LogRequest) -> bytes:
    if not data or (asked.after is None and not _STAMP.match(data)):
        return data
    shown = []
    for line in data.splitlines(keepends=True):
        stamp = _STAMP.match(line)
        if stamp is None:
            shown.append(line)
            continue
        if asked.after is not None:
            text = (stamp[1] + stamp[3].replace(b"Z", b"+00:00")).decode()
            if datetime.fromisoformat(text).timestamp() < asked.after - 1:
                continue
        shown.append(line if asked.timestamps else line[stamp.end() :])
    return b"".join(shown)

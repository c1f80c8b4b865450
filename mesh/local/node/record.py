"""The note in the state folder that says which process is the cluster, and whether it is ready.

The starter writes it, the daemon completes it, `status` and `down` read it: so it is right even
when the `up` that began it was killed.
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any, Final

_NAME = "cluster.json"
_PF_EXITING: Final = 0x4  # proc_pid_stat(5) field 9, include/linux/sched.h
_PENDING: Final = re.compile(r"^(?:Sig|Shd)Pnd:\s*([0-9a-f]+)", re.M)  # proc_pid_status(5)
_KILL: Final = 1 << (signal.SIGKILL - 1)


def started_at(pid: int) -> str:
    """The start time of a living process in ticks, else empty: proc_pid_stat(5) field 22."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def is_ending(pid: int) -> bool:
    """Whether a process was killed, is ending or has ended.

    On a busy machine what it started serves on for a while after its SIGKILL.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    pending = [int(mask, 16) for mask in _PENDING.findall(status)]
    return bool(int(words[6]) & _PF_EXITING or any(mask & _KILL for mask in pending))


def read(folder: Path) -> dict[str, Any] | None:
    """The note, None where there is none that can be read."""
    try:
        found = json.loads((folder / _NAME).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def living_pid(folder: Path) -> int | None:
    """PID 1 of the node as this process sees it, None when it is not alive."""
    found = read(folder)
    if found is None or not found.get("pid"):
        return None
    pid = int(found["pid"])
    return pid if started_at(pid) == found.get("started") else None


def write(folder: Path, fields: dict[str, Any], name: str = _NAME) -> None:
    """Replace the note in one step. Raises OSError."""
    fresh = folder / f"{name}.new"
    fresh.write_text(json.dumps(fields) + "\n")
    fresh.replace(folder / name)


def begun(folder: Path, pid: int, ranges: dict[str, str]) -> None:
    """A node was started. Called in the machine's pid namespace."""
    fields = {"pid": pid, "started": started_at(pid), "ranges": ranges, "ready": False}
    write(folder, fields)


def ready(folder: Path) -> None:
    """The API server answers; keep the ranges for the next start."""
    fields = read(folder) or {}
    write(folder, {**fields, "ready": True})
    write(folder, fields.get("ranges") or {}, "ranges.json")


def forget(folder: Path) -> None:
    """Nothing runs any more."""
    (folder / _NAME).unlink(missing_ok=True)

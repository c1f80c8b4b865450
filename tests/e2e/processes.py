"""Processes of pods as this machine sees them: both kinds of cluster run here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def process_of(pod: Any, module: str) -> int:
    """The process of a pod of the mesh that runs `python -m module`."""
    name = pod["metadata"]["name"]
    (pid,) = (pid for pid in map(int, _numbers()) if _is(pid, name, module))
    return pid


def _numbers() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _is(pid: int, pod: str, module: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    is_it = b"-m" in words and words[words.index(b"-m") + 1] == module.encode()
    return is_it and f"MESH_POD_NAME={pod}".encode() in environ

"""What tests do to the store behind an API server, through etcd's JSON gateway (v3.4 and newer)."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any


def compact(etcd: Path) -> int:
    """Forget all history up to now: whoever asks for older changes gets 410. The revision."""
    nothing = {"key": "AA==", "limit": "1", "count_only": True}
    revision = int(_ask(etcd, "/v3/kv/range", nothing)["header"]["revision"])
    _ask(etcd, "/v3/kv/compaction", {"revision": str(revision), "physical": True})
    return revision


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("etcd", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def _ask(etcd: Path, path: str, body: dict[str, Any]) -> Any:
    connection = _Connection(etcd)
    try:
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, said
    return json.loads(said)

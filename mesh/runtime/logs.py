"""One line per record to stderr, text or JSON. Never holds up the caller: a full or closed
stderr loses the line and counts it, since a sidecar must go on serving."""

from __future__ import annotations

import json
import logging
import time
from typing import Final

from mesh.runtime.lines import LineWriter

LEVELS: Final = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

_CHATTY: Final = "httpx2"  # lightkube's HTTP client: a line at info for each request


class LineHandler(logging.Handler):
    """Writes to stderr and counts what could not be written."""

    def __init__(self, *, as_json: bool, role: str, fd: int = 2) -> None:
        super().__init__()
        self._out = LineWriter(fd)
        self._json = as_json
        self._role = role

    def emit(self, record: logging.LogRecord) -> None:
        self._out.write([self._line(record) + "\n"])

    def close(self) -> None:
        self._out.close()
        super().close()

    @property
    def lost(self) -> int:
        """Records that stderr did not take."""
        return self._out.lost

    def _line(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        stamp += f".{int(record.msecs):03d}Z"
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        if self._json:
            return json.dumps(
                {"time": stamp, "level": record.levelname.lower(), "role": self._role, "msg": text}
            )
        return f"{stamp} {record.levelname.lower()} {self._role}: {text}"


def configure(role: str, *, level: str = "info", form: str = "text") -> LineHandler:
    """Send all records of this process to one handler. `level` is a key of LEVELS."""
    handler = LineHandler(as_json=form == "json", role=role)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    if level != "debug":
        logging.getLogger(_CHATTY).setLevel(logging.WARNING)
    return handler

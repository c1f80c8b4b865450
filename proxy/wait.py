"""Waits until this pod's proxy is ready: the postStart hook of an ordinary sidecar.

The kubelet starts the next container only after the hook of the one before has ended, so the
application never sees a network without a proxy. Gives up after two minutes with exit 1,
upon which the kubelet starts the proxy anew. Started as `python -m proxy.wait [PORT]`.
"""

from __future__ import annotations

import http.client
import sys
import time
from typing import Final

from mesh.core.labels import ADMIN_PORT

SECONDS: Final = 120.0
_PAUSE: Final = 0.05  # seconds between two looks
_ANSWER: Final = 1.0  # seconds that one look may take


def is_ready(port: int) -> bool:
    """Whether the proxy's admin port answers /ready with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(port: int, *, seconds: float = SECONDS) -> bool:
    """True as soon as the proxy is ready, False when it was not in time."""
    deadline = time.monotonic() + seconds
    while not is_ready(port):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)
    return True


def main(arguments: list[str]) -> int:
    """The exit code of the hook."""
    port = int(arguments[0]) if arguments else ADMIN_PORT
    if wait_until_ready(port):
        return 0
    print(f"proxy on port {port}: not ready after {SECONDS:.0f} s; see its log", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

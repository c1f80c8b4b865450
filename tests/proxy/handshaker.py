"""Shakes hands with a proxy as often as it can, and hangs up each time.

`python -m tests.proxy.handshaker PORT IDENTITY BUNDLE LEAF SECONDS` prints how often it could.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

from mesh.core import labels
from mesh.runtime import tls

THREADS = 16


def main(port: str, identity: str, bundle: str, leaf: str, seconds: str) -> None:
    context = tls.client_context(Path(bundle).read_text(), Path(leaf), (labels.ALPN_HTTP2,))
    name, deadline, done = tls.server_name(identity), time.monotonic() + float(seconds), [0]

    def shake() -> None:
        while time.monotonic() < deadline:
            try:
                with (
                    socket.create_connection(("127.0.0.1", int(port)), timeout=6.0) as sock,
                    context.wrap_socket(sock, server_hostname=name) as link,
                ):
                    link.send(b"x")
                    done[0] += 1
            except OSError:
                continue

    threads = [threading.Thread(target=shake) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(done[0])


if __name__ == "__main__":
    main(*sys.argv[1:])

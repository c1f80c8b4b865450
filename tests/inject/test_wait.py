"""The postStart hook of an ordinary sidecar holds until the proxy is ready."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from proxy.wait import main, wait_until_ready


class Admin(http.server.BaseHTTPRequestHandler):
    """Ready at the third look."""

    looks = 0

    def do_GET(self) -> None:
        Admin.looks += 1
        self.send_response(200 if Admin.looks >= 3 and self.path == "/ready" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def admin_port() -> Iterator[int]:
    Admin.looks = 0
    with http.server.HTTPServer(("127.0.0.1", 0), Admin) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_it_ends_as_soon_as_the_proxy_is_ready(admin_port: int) -> None:
    assert main([str(admin_port)]) == 0
    assert Admin.looks == 3


def test_it_gives_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert not wait_until_ready(port, seconds=0.0)

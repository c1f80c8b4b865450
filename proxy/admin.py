"""The admin port: /live /ready /metrics and TCP probes for everybody, the rest for loopback.

A few hundred bytes of HTTP/1 each, by the same guarded reader as the data path; one request
at a time, no bodies.
"""

from __future__ import annotations

import json
import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, Final

from mesh.core.errors import PeerError
from mesh.core.model import View
from mesh.runtime.listen import BACKLOG, open_listeners
from mesh.runtime.logs import LEVELS
from proxy.answer import phrase
from proxy.guard import Fields
from proxy.http1 import Request, Sink
from proxy.http1_request import RequestReader
from proxy.seams import plain_address

IDLE_SECONDS: Final = 30.0
METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"
_PHRASES: Final = {200: b"OK", 204: b"No Content", 405: b"Method Not Allowed"}
_LOOPBACK: Final = ("127.", "::1")


class Admin:
    """What the admin port can ask of the process."""

    def __init__(
        self,
        *,
        loop: AbstractEventLoop,
        waiting_for: Callable[[], list[str]],
        metrics: Callable[[Callable[[str], None]], None],
        view: Callable[[], View],
        dial: Callable[[str, int, Callable[[Any], None], Callable[[str], None]], Any],
        pod_ips: tuple[str, ...],
    ) -> None:
        self.loop = loop
        self.waiting_for = waiting_for
        self.metrics = metrics
        self.view = view
        self.dial = dial
        self.pod_ips = pod_ips
        self.is_loopback: Callable[[str], bool] = lambda host: host.startswith(_LOOPBACK)

    def accept(self) -> AdminConnection:
        return AdminConnection(self)

    async def listen(self, port: int) -> list[Any]:
        """Serve on all addresses. Raises ConfigError when the port is taken."""
        return [
            await self.loop.create_server(self.accept, sock=sock, backlog=BACKLOG)  # type: ignore[arg-type]
            for sock in open_listeners("", port)
        ]


class AdminConnection(Sink):
    """One connection to the admin port."""

    __slots__ = ("_admin", "_attempt", "_local", "_reader", "_request", "_timer", "_transport")

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._reader = RequestReader(self)
        self._request: Request | None = None
        self._attempt: Any = None
        self._transport: Any = None
        self._local = False
        self._timer: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._local = bool(peer) and self._admin.is_loopback(plain_address(peer[0]))
        self._timer = self._admin.loop.call_later(IDLE_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except PeerError as error:
            self._reply(error.status, str(error))
            self._transport.close()
            return
        if self._reader.held_bytes() > 64 * 1024:
            self._transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_tunnel(self, data: bytes) -> None: ...

    def on_request(self, request: Request) -> None:
        self._request = request
        if request.length == 0:
            self._answer(request)

    def on_end(self, trailers: Fields | None) -> None:
        if self._request is not None:
            self._answer(self._request)

    def _answer(self, request: Request) -> None:
        path, _, query = request.target.decode("latin-1").partition("?")
        if request.upgrade:
            self._reply(400, "no upgrades here")
        elif request.method in (b"GET", b"HEAD"):
            self._get(path)
        elif request.method == b"PUT" and path == "/log-level":
            self._put_level(query)
        else:
            self._reply(405, "expected GET")

    def _get(self, path: str) -> None:
        if path == "/live":
            self._reply(200, "live\n")
        elif path == "/ready":
            waits = ", ".join(self._admin.waiting_for())
            self._reply(503 if waits else 200, f"waiting for {waits}\n" if waits else "ready\n")
        elif path == "/metrics":
            self._admin.metrics(lambda text: self._reply(200, text, METRICS))
        elif path.startswith("/probe/tcp/"):
            self._probe(path[len("/probe/tcp/") :])
        elif path == "/view":
            self._for_loopback(lambda: self._reply(200, _view_text(self._admin.view())))
        else:
            self._reply(404, "expected /live, /ready, /metrics or /probe/tcp/PORT\n")

    def _probe(self, port: str) -> None:
        """Dial the application at the pod's own address, which no redirect touches."""
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            self._reply(400, "expected a port from 1 to 65535\n")
            return
        name = self._transport.get_extra_info("sockname")
        host = plain_address(name[0])
        if self._admin.pod_ips and host not in self._admin.pod_ips:
            host = self._admin.pod_ips[0]

        def opened(transport: Any) -> None:
            self._attempt = None
            transport.abort()
            self._reply(200, "open\n")

        def failed(reason: str) -> None:
            self._attempt = None
            self._reply(503, reason + "\n")

        self._attempt = self._admin.dial(host, int(port), opened, failed)

    def _put_level(self, query: str) -> None:
        def put() -> None:
            level = LEVELS.get(query)
            if level is None:
                self._reply(400, f"expected PUT /log-level?LEVEL, one of {', '.join(LEVELS)}\n")
            else:
                logging.getLogger().setLevel(level)
                self._reply(200, query + "\n")

        self._for_loopback(put)

    def _for_loopback(self, answer: Callable[[], None]) -> None:
        if self._local:
            answer()
        else:
            self._reply(403, "only from inside the pod\n")

    def _reply(self, status: int, text: str, kind: bytes = b"text/plain; charset=utf-8") -> None:
        if self._transport.is_closing():
            return
        request = self._request
        body = text.encode()
        keep = request is not None and request.keep_alive and bool(request.minor)
        head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (
            status,
            _PHRASES.get(status) or phrase(status),
            kind,
            len(body),
            b"" if keep else b"connection: close\r\n",
        )
        is_head = request is not None and request.method == b"HEAD"
        self._transport.write(head if is_head else head + body)
        if keep:
            self._timer.cancel()
            self._timer = self._admin.loop.call_later(IDLE_SECONDS, self._transport.abort)
            self._reader.next()
        else:
            self._transport.close()


def _view_text(view: View) -> str:
    """The view as JSON, without the bundle."""
    import msgspec

    document = msgspec.to_builtins(view)
    document.pop("bundle", None)
    return json.dumps(document, indent=2) + "\n"

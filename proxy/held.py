"""A gRPC response of which only the head is here, kept back while its call may yet be tried again.

A server that fails after it has sent its initial metadata says so in trailers, behind a head
that looks like success. Where the route wants such a failure tried again and the whole call has
been sent, the head waits: for a message, which ends the matter, for the trailers, or HOLD at most,
so that a stream that begins with silence still begins.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import Any, Final, Protocol

from proxy.exchange import INTERNAL_ERROR, ClientSide, Exchange
from proxy.guard import Fields
from proxy.http1 import Response

HOLD: Final = 1.0  # seconds


class Decides(Protocol):
    """Who knows what becomes of a call (`proxy.attempts`)."""

    def failed_late(self, exchange: Exchange, trailers: Fields | None) -> bool:
        """The trailers came, and no message before them. True: the call goes out once more."""
        ...

    def pass_on(self, exchange: Exchange, response: Response) -> None: ...


class Held(ClientSide):
    """See the module. A `ClientSide` in the place of the client's own."""

    __slots__ = ("_client", "_decides", "_exchange", "_response", "_timer")

    def __init__(
        self, loop: AbstractEventLoop, exchange: Exchange, response: Response, decides: Decides
    ) -> None:
        self._client: ClientSide = exchange.client
        self._decides = decides
        self._exchange = exchange
        self._response = response
        self._timer: Any = loop.call_later(HOLD, self._late)
        exchange.client = self
        exchange.held = self

    def ended(self, trailers: Fields | None) -> bool:
        """The response is over. True: it was taken back."""
        if self._decides.failed_late(self._exchange, trailers):
            return True
        self.release()
        return False

    def release(self) -> None:
        """Give the head to the client."""
        self.drop()
        self._decides.pass_on(self._exchange, self._response)
        self._exchange.open_response(self._response)

    def drop(self) -> None:
        """Forget the head; the exchange has its client again."""
        self._timer.cancel()
        self._exchange.client = self._client
        self._exchange.held = None

    def _late(self) -> None:
        self.release()
        self._client.flush()

    # -- what the exchange asks of its client ------------------------------------------------

    def send_response(self, response: Response) -> None:
        """An answer of our own, or an interim one."""
        if response.status >= 200:
            self.drop()
        self._client.send_response(response)

    def send_body(self, data: bytes) -> None:
        self.release()
        self._client.send_body(data)

    def send_end(self, trailers: Fields | None) -> None:
        self.drop()
        self._client.send_end(trailers)

    def flush(self) -> None:
        self._client.flush()

    def refuse(self) -> bool:
        self.drop()
        return self._client.refuse()

    def cut(self, code: int = INTERNAL_ERROR) -> None:
        self.drop()
        self._client.cut(code)

    def exchange_over(self, now: float) -> None:
        self.drop()
        self._client.exchange_over(now)

    def tunnel(self) -> bytes:
        return self._client.tunnel()

    def pause_reading(self) -> None:
        self._client.pause_reading()

    def resume_reading(self) -> None:
        self._client.resume_reading()

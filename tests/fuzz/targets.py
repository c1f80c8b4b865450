"""What is fuzzed: one function per parser of outside bytes, and inputs to begin with.

A target takes any bytes and returns; what it raises is a finding. Not to crash is the least:
each holds its parser against a second opinion as well, which is the same bytes in other
pieces, another implementation, or a strict reader of what we would forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.fuzz import control, http1, http2, opening


@dataclass(frozen=True)
class Target:
    """One parser: `run` takes any bytes; `seeds` are inputs that get far."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


TARGETS = {
    "http1-requests": Target(http1.read_requests, http1.request_seeds),
    "http1-responses": Target(http1.read_responses, http1.response_seeds),
    "http2-server": Target(http2.serve, http2.server_seeds),
    "http2-client": Target(http2.ask, http2.client_seeds),
    "hpack": Target(http2.decode, http2.block_seeds),
    "detection": Target(opening.detect, opening.seeds),
    "control-stream": Target(control.read, control.seeds),
    "admin": Target(control.ask_admin, http1.request_seeds),
}

"""Listening on all addresses of a pod."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from mesh.core.errors import ConfigError
from mesh.runtime import listen
from mesh.runtime.listen import open_listeners


def test_both_families_share_one_free_port() -> None:
    listeners = open_listeners("", 0)
    ports = {listener.getsockname()[1] for listener in listeners}
    for listener in listeners:
        listener.close()

    assert len(ports) == 1


def test_a_port_that_is_taken_for_one_family_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, refused = listen._listen, list[int]()

    def once_taken(family: int, host: str, port: int, backlog: int, shared: bool) -> Any:
        if family == socket.AF_INET6 and not refused:
            refused.append(port)
            raise ConfigError("taken")
        return real(family, host, port, backlog, shared)

    monkeypatch.setattr(listen, "_listen", once_taken)

    listeners = open_listeners("", 0)
    for listener in listeners:
        listener.close()

    assert len(refused) == 1
    assert len(listeners) == 2


def test_a_port_that_was_asked_for_and_is_taken_is_an_error() -> None:
    (first, *others) = open_listeners("", 0)
    try:
        with pytest.raises(ConfigError, match="cannot listen on"):
            open_listeners("", first.getsockname()[1])
    finally:
        for listener in (first, *others):
            listener.close()

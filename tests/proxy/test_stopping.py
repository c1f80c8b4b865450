"""The end of a proxy as data: each phase, each event, each kind of sidecar."""

from __future__ import annotations

import pytest

from proxy.stopping import QUIET, Phase, Stopping


def make(*, is_native: bool = False) -> Stopping:
    return Stopping(is_native=is_native, hard_stop=28.0)


def test_nothing_ends_a_proxy_that_nobody_asked() -> None:
    stopping = make(is_native=True)

    assert stopping.step(1e9, opened=0, app_done=False) is Phase.SERVING


def test_an_ordinary_sidecar_stays_until_the_application_has_ended() -> None:
    stopping = make()
    stopping.ask(0.0)

    assert stopping.step(20.0, opened=0, app_done=False) is Phase.DRAINING
    assert stopping.step(21.0, opened=0, app_done=True) is Phase.ENDED


def test_the_end_of_the_application_ends_an_ordinary_sidecar_without_sigterm() -> None:
    stopping = make()

    assert stopping.step(5.0, opened=0, app_done=True) is Phase.DRAINING
    assert stopping.step(5.0 + QUIET, opened=0, app_done=True) is Phase.ENDED


def test_a_native_sidecar_leaves_its_end_to_the_kubelet() -> None:
    stopping = make(is_native=True)

    assert stopping.step(5.0, opened=0, app_done=True) is Phase.SERVING


def test_what_is_open_is_waited_for() -> None:
    stopping = make(is_native=True)
    stopping.ask(0.0)

    assert stopping.step(10.0, opened=1, app_done=True) is Phase.DRAINING
    assert stopping.step(10.0 + QUIET / 2, opened=0, app_done=True) is Phase.DRAINING
    assert stopping.step(10.0 + QUIET, opened=0, app_done=True) is Phase.ENDED


@pytest.mark.parametrize("is_native", [True, False])
def test_the_hard_stop_waits_for_nobody(is_native: bool) -> None:
    stopping = make(is_native=is_native)
    stopping.ask(100.0)
    stopping.ask(120.0)  # a second SIGTERM does not move it

    assert stopping.step(127.9, opened=3, app_done=False) is Phase.DRAINING
    assert stopping.step(128.0, opened=3, app_done=False) is Phase.ENDED
    assert stopping.step(129.0, opened=0, app_done=True) is Phase.ENDED

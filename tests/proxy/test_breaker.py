"""When an endpoint is left alone, and how it comes back."""

from __future__ import annotations

from proxy.breaker import Admission, Breaker, BreakerPolicy


def make(max_failures: int = 2) -> Breaker:
    return Breaker(BreakerPolicy(max_failures, min_backoff=1.0, max_backoff=60.0))


def test_a_failed_probe_doubles_the_wait() -> None:
    breaker = make()
    breaker.failed(now=0.0)
    breaker.failed(now=0.0)

    assert breaker.admit(now=1.0) is Admission.PROBE
    breaker.failed(now=1.0)

    assert breaker.admit(now=2.9) is Admission.REJECT
    assert breaker.admit(now=3.0) is Admission.PROBE


def test_only_failures_in_a_row_open() -> None:
    breaker = make()
    breaker.failed(now=0.0)
    breaker.succeeded()

    assert not breaker.failed(now=0.0)
    assert breaker.admit(now=0.0) is Admission.ADMIT
    assert breaker.failed(now=0.0)


def test_one_probe_goes_out_and_its_success_closes() -> None:
    breaker = make()
    breaker.failed(now=0.0)
    breaker.failed(now=0.0)

    assert breaker.admit(now=1.0) is Admission.PROBE
    assert breaker.admit(now=1.1) is Admission.REJECT
    assert breaker.succeeded()
    assert breaker.admit(now=1.2) is Admission.ADMIT


def test_a_closed_breaker_begins_with_the_shortest_wait_again() -> None:
    breaker = make(max_failures=1)
    breaker.failed(now=0.0)
    breaker.admit(now=1.0)
    breaker.failed(now=1.0)
    breaker.admit(now=3.0)
    breaker.succeeded()

    breaker.failed(now=10.0)

    assert breaker.probe_at == 11.0


def test_late_answers_change_nothing_while_it_waits() -> None:
    breaker = make(max_failures=1)
    breaker.failed(now=0.0)

    assert not breaker.failed(now=0.5)
    assert not breaker.succeeded()
    assert breaker.probe_at == 1.0


def test_a_probe_without_an_answer_lets_another_through_in_time() -> None:
    breaker = make(max_failures=1)
    breaker.failed(now=0.0)
    breaker.admit(now=1.0)

    assert breaker.admit(now=1.9) is Admission.REJECT
    assert breaker.admit(now=2.0) is Admission.PROBE


def test_waits_grow_to_a_limit_and_are_drawn_longer_by_the_jitter() -> None:
    breaker = Breaker(BreakerPolicy(1, min_backoff=1.0, max_backoff=4.0, jitter=0.5))
    breaker.failed(now=0.0, draw=0.5)
    assert breaker.probe_at == 1.25

    now = 0.0
    for _ in range(5):
        now = breaker.probe_at or 0.0
        breaker.admit(now)
        breaker.failed(now, draw=0.99)

    assert breaker.probe_at == now + 4.0


def test_without_probes_everything_is_let_through_after_the_wait() -> None:
    breaker = Breaker(BreakerPolicy(1, min_backoff=1.0, probes=False))
    breaker.failed(now=0.0)

    assert breaker.admit(now=1.0) is Admission.ADMIT
    assert breaker.admit(now=1.0) is Admission.ADMIT
    breaker.failed(now=1.0)
    assert breaker.probe_at == 3.0

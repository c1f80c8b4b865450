"""Which endpoint is asked next."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mesh.core.model import Balancing
from proxy.balance import Load, Loaded, balancer, pick


def known(latency: float) -> Load:
    """The load of an endpoint that answered twice, so many seconds late."""
    load = Load(0.0)
    load.observe(latency, 0.0)
    load.observe(latency, 0.0)
    return load


class Endpoint(Loaded):
    def __init__(self, name: str, latency: float | None = None) -> None:
        self.name = name
        self.load = Load(0.0)
        if latency is not None:
            self.load = known(latency)


def test_the_cheaper_of_two_is_taken() -> None:
    slow, fast = Endpoint("slow", 0.5), Endpoint("fast", 0.001)

    picked = {pick([slow, fast], random.random) for _ in range(50)}

    assert picked == {fast}


def test_requests_in_hand_make_an_endpoint_dear() -> None:
    busy, slow = Endpoint("busy", 0.01), Endpoint("slow", 0.02)
    busy.load.pending = 3

    assert pick([busy, slow], random.random) is slow


def test_a_rise_counts_at_once_and_a_fall_bit_by_bit() -> None:
    load = known(0.010)
    load.observe(1.0, 1.0)
    assert load.cost == 1.0

    load.observe(0.010, 2.0)
    assert 0.8 < load.cost < 0.95
    for second in range(3, 60):
        load.observe(0.010, float(second))
    assert load.cost < 0.02


def test_an_endpoint_that_was_slow_is_asked_again_after_a_while() -> None:
    load = known(1.0)

    for second in range(60):
        load.fade(float(second))

    assert load.cost < 0.01


def test_a_new_endpoint_is_tried_at_once_with_one_request() -> None:
    known, new = Endpoint("known", 0.001), Endpoint("new")

    assert pick([known, new], random.random) is new
    new.load.begin()
    assert pick([known, new], random.random) is known


def test_a_first_answer_that_was_slow_does_not_keep_a_new_endpoint_from_requests() -> None:
    old, new = Endpoint("old", 0.001), Endpoint("new")
    new.load.begin()
    new.load.pending -= 1
    new.load.observe(0.2, 0.0)  # what is behind it was opened for this one

    assert pick([old, new], random.random) is new
    new.load.observe(0.2, 0.0)
    assert pick([old, new], random.random) is old


def test_an_endpoint_that_never_answered_is_tried_again_after_a_while() -> None:
    """Its first connection failed, say, since it was not there yet."""
    known_one, new = Endpoint("known", 0.001), Endpoint("new")
    new.load.begin()
    new.load.pending -= 1
    assert pick([known_one, new], random.random) is known_one

    for second in range(60):
        new.load.fade(float(second))
    assert pick([known_one, new], random.random) is new
    new.load.begin()
    new.load.pending -= 1
    assert pick([known_one, new], random.random) is known_one


def test_equal_endpoints_share_evenly() -> None:
    endpoints = [Endpoint(str(i), 0.01) for i in range(5)]
    draws = random.Random(1)

    counts = Counter(pick(endpoints, draws.random).name for _ in range(5000))  # type: ignore[union-attr]

    assert all(700 < count < 1300 for count in counts.values())


def test_those_to_avoid_are_taken_only_when_there_is_no_other() -> None:
    one, two = Endpoint("one", 0.001), Endpoint("two", 1.0)

    assert pick([one, two], random.random, (one,)) is two
    assert pick([one], random.random, (one,)) is one
    assert pick([], random.random) is None


@pytest.mark.parametrize("kind", list(Balancing))
def test_every_balancer_knows_empty_and_single_sets_and_avoids(kind: Balancing) -> None:
    choose = balancer(kind, random.random)
    one, two = Endpoint("one"), Endpoint("two")

    assert choose([], random.random) is None
    assert choose([one], random.random, [one]) is one
    assert {choose([one, two], random.random, [one]) for _ in range(20)} == {two}
    assert {choose([one, two], random.random) for _ in range(100)} <= {one, two}


def test_round_robin_asks_one_after_the_other() -> None:
    choose = balancer(Balancing.ROUND_ROBIN, random.random)
    endpoints = [Endpoint(name) for name in "abc"]

    counts = Counter(choose(endpoints, random.random) for _ in range(30))

    assert set(counts.values()) == {10}


def test_least_request_looks_at_what_is_in_hand_only() -> None:
    busy, slow = Endpoint("busy", 0.001), Endpoint("slow", 9.0)
    busy.load.pending = 2

    assert balancer(Balancing.LEAST_REQUEST, random.random)([busy, slow], random.random) is slow


def test_random_gives_each_its_share() -> None:
    draw = random.Random(1).random
    choose = balancer(Balancing.RANDOM, draw)
    one, two = Endpoint("one", 9.0), Endpoint("two", 0.001)

    counts = Counter(choose([one, two], draw) for _ in range(1000))

    assert 450 < counts[one] < 550

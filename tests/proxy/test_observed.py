"""What a proxy keeps of the requests that went by, and how little."""

from __future__ import annotations

import sys

from proxy.observed import CREDIT, MOST_KINDS, MOST_PLACES, Observed

WEB = "web.shop.svc.cluster.local:80"


def told(observed: Observed, window: float = 60.0, now: float = 0.0) -> list[tuple[str, str, int]]:
    kinds = observed.tell((), window, now)
    return sorted((kind["method"], kind["path"], kind["count"]) for kind in kinds)


def test_requests_of_one_kind_are_one_line_and_values_are_gone() -> None:
    observed = Observed(0.0)

    observed.note(WEB, b"GET", b"/items/7?secret=1", 200, 0.0)
    observed.note(WEB, b"GET", b"/items/8", 503, 0.0)
    observed.note(WEB, b"POST", b"/items", 201, 0.0)

    assert told(observed) == [("GET", "/items/{id}", 2), ("POST", "/items", 1)]


def test_what_says_more_of_a_client_is_not_kept() -> None:
    observed = Observed(0.0)

    observed.note(WEB, b"GET", b"/wp-admin", 404, 0.0)
    observed.note(WEB, b"GET", b"/gone", 0, 0.0)
    observed.note(WEB, b"g{}", b"/odd", 200, 0.0)
    observed.note(WEB, b"GET", b"/\xff", 200, 0.0)
    observed.note(WEB, b"OPTIONS", b"*", 200, 0.0)
    observed.note(WEB, b"GET", b"/" + b"a/" * 400, 200, 0.0)

    assert told(observed) == []


def test_only_what_was_seen_within_the_window_is_told_and_only_of_the_places_asked_for() -> None:
    observed = Observed(0.0)
    observed.note(WEB, b"GET", b"/old", 200, 0.0)
    observed.note(WEB, b"GET", b"/new", 200, 50.0)
    observed.note("8080", b"GET", b"/mine", 200, 50.0)

    assert told(observed, window=20.0, now=60.0) == [("GET", "/mine", 1), ("GET", "/new", 1)]
    assert [kind["path"] for kind in observed.tell(["8080"], 60.0, 60.0)] == ["/mine"]


def test_no_more_requests_are_looked_at_than_a_second_has_credit_for() -> None:
    observed = Observed(0.0)
    looked = 0
    for _ in range(CREDIT + 50):
        if observed.credit > 0:  # as the data path asks
            looked += 1
            observed.note(WEB, b"GET", b"/", 200, 0.0)

    assert looked == CREDIT
    observed.tick()
    assert observed.credit == CREDIT


def test_a_flood_of_kinds_and_places_keeps_little_and_not_at_the_cost_of_what_is_frequent() -> None:
    observed = Observed(0.0)
    for turn in range(20_000):
        if turn % 10 == 0:
            observed.note(WEB, b"GET", b"/api/orders", 200, float(turn))
        word = "".join(chr(97 + (turn // 26**at) % 26) for at in range(4))
        observed.note(WEB, b"GET", f"/{word}/{word[::-1]}".encode(), 200, float(turn))
    for turn in range(1000):
        observed.note(f"place-{turn}", b"GET", b"/", 200, 30_000.0 + turn)

    kinds = observed.tell((), 1e9, 0.0)
    assert len(kinds) <= MOST_PLACES * MOST_KINDS
    assert len({kind["place"] for kind in kinds}) <= MOST_PLACES
    assert sum(sys.getsizeof(kind["path"]) for kind in kinds) < 200_000


def test_what_is_frequent_outlives_what_is_rare() -> None:
    observed = Observed(0.0)
    for turn in range(5000):
        observed.note(WEB, b"GET", b"/api/orders", 200, float(turn))
        second = "".join(chr(97 + (turn // 26**at) % 26) for at in range(3))
        method = ("GET", "PUT", "POST")[turn % 3]
        observed.note(WEB, method.encode(), f"/api/{second}".encode() * (turn % 9 + 1), 200, 1.0)

    paths = {kind["path"] for kind in observed.tell((), 1e9, 0.0)}
    assert paths & {"/api/orders", "/api/{id}"}
    assert len(paths) <= MOST_KINDS

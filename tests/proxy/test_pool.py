"""Which connection is reused, which is closed."""

from __future__ import annotations

from proxy.pool import LEARNT_FOR, MAX_IDLE, Pool


def test_the_last_one_used_is_the_first_one_taken() -> None:
    pool: Pool[str] = Pool(4.0)
    pool.give("a", 0.0)
    pool.give("b", 1.0)

    assert (pool.take(), pool.take(), pool.take()) == ("b", "a", None)


def test_what_was_idle_for_too_long_is_closed() -> None:
    pool: Pool[str] = Pool(4.0)
    pool.give("a", 0.0)
    pool.give("b", 3.0)

    assert pool.expire(3.9) == []
    assert pool.expire(4.0) == ["a"]
    assert pool.expire(7.0) == ["b"]


def test_a_dead_connection_is_not_given_out() -> None:
    pool: Pool[str] = Pool(4.0)
    pool.give("a", 0.0)
    pool.give("b", 0.0)

    pool.drop("b", 3.0)
    pool.drop("never seen", 3.0)

    assert (pool.take(), pool.take()) == ("a", None)


def test_a_server_that_waits_less_is_hung_up_on_earlier() -> None:
    pool: Pool[str] = Pool(4.0)
    pool.give("a", 0.0)
    pool.drop("a", 3.0)  # its server waits for three seconds
    pool.give("b", 10.0)

    assert pool.expire(11.9) == []
    assert pool.expire(12.0) == ["b"]


def test_a_server_that_was_restarted_gets_another_chance() -> None:
    pool: Pool[str] = Pool(4.0)
    pool.give("a", 0.0)
    pool.drop("a", 0.1)
    pool.give("b", 10.0)
    assert pool.expire(10.0) == ["b"]
    pool.expire(0.1 + LEARNT_FOR + 1.0)

    pool.give("c", 400.0)

    assert pool.expire(403.9) == []
    assert pool.expire(404.0) == ["c"]


def test_the_oldest_goes_when_there_are_too_many() -> None:
    pool: Pool[int] = Pool(4.0)

    closed = [pool.give(i, 0.0) for i in range(MAX_IDLE + 1)]

    assert closed[-1] == 0
    assert closed[:-1] == [None] * MAX_IDLE
    assert len(pool.empty()) == MAX_IDLE
    assert pool.take() is None

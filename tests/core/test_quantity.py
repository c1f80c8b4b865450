"""Durations, quantities, weights and ports as people write them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mesh.core.quantity import (
    has_port,
    parse_duration,
    parse_ports,
    parse_quantity,
    parse_switch,
    parse_weights,
    print_ports,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("300ms", 0.3), ("5s", 5.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("1d", 86400.0)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5s3", "ms5", "1.s"])
def test_what_is_not_a_duration_is_refused_with_what_came(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, Fraction(1)),
        ("500m", Fraction(1, 2)),
        ("1.5Gi", Fraction(3 * 2**29)),
        ("1e3", Fraction(1000)),
        ("2k", Fraction(2000)),
        (0.25, Fraction(1, 4)),
    ],
)
def test_a_quantity_is_exact(value: int | float | str, number: Fraction) -> None:
    assert parse_quantity(value) == number


@pytest.mark.parametrize("value", ["", "m", ".", "1 k", "1KB", "ten", True])
def test_what_is_not_a_quantity_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        parse_quantity(value)


def test_weights_keep_their_proportions_whatever_their_spelling() -> None:
    assert parse_weights([1, 1]) == [1, 1]
    assert parse_weights(["500m", "500m"]) == [1, 1]
    halves = parse_weights(["900m", 1])
    assert halves[0] * 10 == halves[1] * 9
    assert parse_weights([0, 5])[0] == 0


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        parse_weights([1, -1])


def test_ports_are_merged_and_printed_back() -> None:
    ranges = parse_ports(" 8080, 80,81-90,, 9000-9010")

    assert ranges == ((80, 90), (8080, 8080), (9000, 9010))
    assert print_ports(ranges) == "80-90,8080,9000-9010"
    assert has_port(ranges, 85)
    assert not has_port(ranges, 91)


@pytest.mark.parametrize("text", ["0", "65536", "80-", "90-80", "http", "1_0", "٣"])
def test_what_is_no_port_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a port"):
        parse_ports(text)


def test_a_switch_is_enabled_or_disabled() -> None:
    assert parse_switch("enabled")
    assert not parse_switch("disabled")
    with pytest.raises(ValueError, match='got "yes"'):
        parse_switch("yes")

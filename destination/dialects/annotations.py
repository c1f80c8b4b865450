"""Annotations of Services and routes: retries, timeouts, and when an endpoint is taken out.

Linkerd's `retry.linkerd.io/*`, `timeout.linkerd.io/*` and `balancer.linkerd.io/*`, and our own
names for them. A value that does not read is a Problem and counts as not given. Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from destination.fragments import (
    ACCEPTED_SPELLING,
    INVALID_DURATION,
    INVALID_VALUE,
    NOT_SUPPORTED,
    UNKNOWN_FIELD,
)
from mesh.core import labels
from mesh.core.model import Balancing, Breaker, HashKey, Policy, Problem, Retry, Source
from mesh.core.quantity import parse_duration

T = TypeVar("T")

GRPC_CODES: Final = {
    "cancelled": 1,
    "unknown": 2,
    "invalid-argument": 3,
    "deadline-exceeded": 4,
    "not-found": 5,
    "already-exists": 6,
    "permission-denied": 7,
    "resource-exhausted": 8,
    "failed-precondition": 9,
    "aborted": 10,
    "out-of-range": 11,
    "unimplemented": 12,
    "internal": 13,
    "unavailable": 14,
    "data-loss": 15,
}
_BY_NAME: Final = labels.ROUTE_ANNOTATION_BY_NAME
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}").fullmatch
_MOST_RETRIES: Final = 100
_RETRIES: Final = ("mesh/retry-http", "mesh/retry-grpc", "mesh/retry-limit", "mesh/retry-timeout")
_BREAKING: Final = "mesh/failure-accrual"
_BALANCER: Final = "mesh/balancer"
_OF_SERVICES: Final = (_BREAKING, _BALANCER)


class Annotations:
    """The annotations of one object that this dialect knows, by our own names."""

    def __init__(self, notes: Mapping[str, str], source: Source, *, breaks: bool = True) -> None:
        self._source = source
        self._breaks = breaks
        self._values: dict[str, tuple[str, str]] = {}  # our name -> as written, value
        self.problems: list[Problem] = []
        for written in sorted(notes):
            known = _BY_NAME.get(written)
            if known is not None and (breaks or not known.name.startswith(_OF_SERVICES)):
                self._take(known.name, written, notes[written])
            elif known is not None or written.startswith(labels.ROUTE_PREFIXES):
                self._unknown(written, is_known=known is not None)
            elif not breaks and written.startswith(labels.OUR_PREFIXES):
                self._unknown(written, is_known=False)  # of Services, others judge these

    def _take(self, name: str, written: str, value: str) -> None:
        if name in self._values and written != name:
            self._warn(written, ACCEPTED_SPELLING, f"{name} says the same and goes before it")
        else:
            self._values[name] = (written, value)

    def _unknown(self, written: str, *, is_known: bool) -> None:
        if is_known:
            self._warn(written, NOT_SUPPORTED, "acts on Services, not on a route")
            return
        if "failure-accrual" in written or "alpha" in written:
            self._warn(written, NOT_SUPPORTED, "not supported; only failures in a row are counted")
            return
        near = difflib.get_close_matches(written, _BY_NAME, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self._warn(written, UNKNOWN_FIELD, f"no such annotation{hint}")

    @property
    def has_policy(self) -> bool:
        """Whether anything is said of retries or timeouts, be it unreadable."""
        return any(name.startswith(("mesh/retry-", "mesh/timeout-")) for name in self._values)

    def have_no_effect(self, why: str) -> None:
        """Say of each one that it does nothing here."""
        for written, _ in self._values.values():
            self._warn(written, NOT_SUPPORTED, f"no effect: {why}")

    def policy(self) -> Policy | None:
        """What they say of retries and timeouts."""
        if not self.has_policy:
            return None
        return Policy(
            request=self._duration("mesh/timeout-request"),
            headers=self._duration("mesh/retry-timeout"),
            response=self._duration("mesh/timeout-response"),
            idle=self._duration("mesh/timeout-idle"),
            stream=self._duration("mesh/timeout-stream"),
            retry=self._retry(),
        )

    def breaker(self) -> Breaker | None:
        """When endpoints of a Service are taken out; None: never."""
        mode = self._read(_BREAKING, _mode)
        given = [name for name in self._values if name.startswith(_BREAKING + "-")]
        if mode is None:
            for name in given:
                self._warn(self._values[name][0], NOT_SUPPORTED, f"no effect without {_BREAKING}")
            return None
        if mode == "unified":
            message = "its share of failures is not counted, only failures in a row are"
            self._warn(self._values[_BREAKING][0], NOT_SUPPORTED, message)
        default = Breaker()
        failures = self._read(f"{_BREAKING}-max-failures", _count)
        low = self._duration(f"{_BREAKING}-min-penalty")
        high = self._duration(f"{_BREAKING}-max-penalty")
        jitter = self._read(f"{_BREAKING}-jitter-ratio", _ratio)
        return self._checked(
            Breaker(
                max_failures=default.max_failures if failures is None else failures,
                min_penalty=default.min_penalty if low is None else low,
                max_penalty=default.max_penalty if high is None else high,
                jitter=default.jitter if jitter is None else jitter,
            )
        )

    def balancing(self) -> tuple[Balancing, HashKey | None]:
        """How an endpoint of a Service is picked."""
        return self._read(_BALANCER, _balancer) or (Balancing.EWMA, None)

    def _checked(self, breaker: Breaker) -> Breaker:
        path = self._values[_BREAKING][0]
        if breaker.max_failures < 1:
            self._warn(path, INVALID_VALUE, "expected 1 failure or more; taken as 1")
            return Breaker(1, breaker.min_penalty, breaker.max_penalty, breaker.jitter)
        if not 0 < breaker.min_penalty <= breaker.max_penalty:
            message = "expected 0 < min-penalty <= max-penalty; 1s and 1m are used"
            self._warn(path, INVALID_VALUE, message)
            return Breaker(breaker.max_failures, jitter=breaker.jitter)
        return breaker

    def _retry(self) -> Retry | None:
        if not any(name in self._values for name in _RETRIES):
            return None
        statuses = self._read("mesh/retry-http", _statuses) or ()
        codes = self._read("mesh/retry-grpc", _codes) or ()
        limit = self._read("mesh/retry-limit", _count)
        timed = "mesh/retry-timeout" in self._values
        if not (statuses or codes or timed):
            if "mesh/retry-limit" in self._values:
                written = self._values["mesh/retry-limit"][0]
                message = "no effect without mesh/retry-http, mesh/retry-grpc or mesh/retry-timeout"
                self._warn(written, NOT_SUPPORTED, message)
            return None
        return Retry(
            limit=1 if limit is None else min(limit, _MOST_RETRIES),
            statuses=statuses,
            grpc=codes,
            # Linkerd makes a 502 of a server that went away, before it looks at statuses.
            on_reset=any(low <= 502 <= high for low, high in statuses),
            on_timeout=True,
        )

    def _duration(self, name: str) -> float | None:
        return self._read(name, parse_duration, INVALID_DURATION)

    def _read(self, name: str, parse: Callable[[str], T], reason: str = INVALID_VALUE) -> T | None:
        if name not in self._values:
            return None
        written, value = self._values[name]
        try:
            return parse(value.strip())
        except ValueError as error:
            self._warn(written, reason, f"{error}; it has no effect")
            return None

    def _warn(self, written: str, reason: str, message: str) -> None:
        path = f"metadata.annotations[{written}]"
        self.problems.append(Problem(self._source, path, reason, message))


def _balancer(text: str) -> tuple[Balancing, HashKey | None]:
    kind, _, name = text.partition(":")
    if kind == "hash-header" and _TOKEN(name):
        return Balancing.HASH, HashKey(header=name.lower())
    if kind == "hash-cookie" and _TOKEN(name):
        return Balancing.HASH, HashKey(cookie=name)
    known = [one.value for one in Balancing if one is not Balancing.HASH]
    if text not in known:
        words = ", ".join([*known, "hash-header:NAME", "hash-cookie:NAME"])
        raise ValueError(f'expected one of {words}; got "{text[:60]}"')
    return Balancing(text), None


def _mode(text: str) -> str:
    if text not in ("consecutive", "unified"):
        raise ValueError(f'expected consecutive, got "{text[:60]}"')
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise ValueError(f'expected a whole number, got "{text[:60]}"')
    return int(text)


def _ratio(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise ValueError(f'expected a number from 0 to 100, got "{text[:60]}"')
    return number


def _statuses(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(_status_range(word.strip()) for word in text.split(",") if word.strip())


def _status_range(word: str) -> tuple[int, int]:
    if word == "gateway-error":
        return 502, 504
    if len(word) == 3 and word[1:].lower() == "xx" and word[0] in "12345":
        return int(word[0]) * 100, int(word[0]) * 100 + 99
    first, dash, last = word.partition("-")
    low, high = _status(first), _status(last if dash else first)
    if low is None or high is None or low > high:
        raise ValueError(f'expected 5xx, gateway-error, a code or a range, got "{word[:60]}"')
    return low, high


def _status(text: str) -> int | None:
    text = text.strip()
    is_code = text.isascii() and text.isdigit() and len(text) == 3 and 100 <= int(text) <= 599
    return int(text) if is_code else None


def _codes(text: str) -> tuple[int, ...]:
    codes = []
    for word in (word.strip().lower() for word in text.split(",")):
        if word and word not in GRPC_CODES:
            known = ", ".join(GRPC_CODES)
            raise ValueError(f'expected gRPC codes of {known}; got "{word[:60]}"')
        if word:
            codes.append(GRPC_CODES[word])
    return tuple(sorted(set(codes)))

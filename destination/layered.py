"""A mapping that never changes and gives cheap changed copies: one big layer under a small one.

A snapshot of a large cluster holds tens of thousands of entries, and a change touches a few.
The upper layer is copied on each change and folded into a new base when it has grown.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Final, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

_FOLD_AT: Final = 256  # entries in the upper layer


class Layered(Mapping[K, V]):
    """An immutable mapping; None as a value of the upper layer hides the base's entry."""

    __slots__ = ("_base", "_over", "_size")

    def __init__(self, base: Mapping[K, V] | None = None) -> None:
        self._base: dict[K, V] = dict(base or {})
        self._over: dict[K, V | None] = {}
        self._size = len(self._base)

    def changed(self, changes: Mapping[K, V | None]) -> Layered[K, V]:
        """The mapping with `changes` put in; None takes an entry out."""
        if not changes:
            return self
        new: Layered[K, V] = Layered.__new__(Layered)
        size = self._size
        for key, value in changes.items():
            size += (value is not None) - (self.get(key) is not None)
        over = {**self._over, **changes}
        if len(over) <= max(_FOLD_AT, len(self._base) // 64):
            new._base, new._over = self._base, over
        else:
            merged = {**self._base, **over}
            new._base = {key: value for key, value in merged.items() if value is not None}
            new._over = {}
        new._size = size
        return new

    def get(self, key: K, default: D = None) -> V | D:  # type: ignore[assignment]
        over = self._over
        found = over[key] if key in over else self._base.get(key)
        return default if found is None else found

    def __getitem__(self, key: K) -> V:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[K]:
        over = self._over
        for key in self._base:
            if key not in over:
                yield key
        for key, value in over.items():
            if value is not None:
                yield key

    def __len__(self) -> int:
        return self._size

"""Who fails handshakes again and again must wait: each costs us as much as it costs him. Pure.

A proxy of the mesh proves itself, so it never gets here, however many connections it opens.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 50  # failed handshakes of one address
SECONDS: Final = 10.0  # in so long; and so long it waits then
MAX_ADDRESSES: Final = 1024


class Strikes:
    """Failed handshakes by address. Forgets all when too many fail."""

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        self._failed: dict[str, tuple[float, int]] = {}  # when the count began, and the count

    def is_out(self, address: str, now: float) -> bool:
        """Whether no handshake with this address is worth its while."""
        began, count = self._failed.get(address, (now, 0))
        return count >= MOST and now - began < SECONDS

    def failed(self, address: str, now: float) -> None:
        """One more handshake came to nothing."""
        began, count = self._failed.get(address, (now, 0))
        if now - began >= SECONDS:
            began, count = now, 0
        if len(self._failed) >= MAX_ADDRESSES and address not in self._failed:
            self._failed.clear()
        # The wait begins with the failure that was one too many.
        self._failed[address] = (now if count + 1 == MOST else began, count + 1)

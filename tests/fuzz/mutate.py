"""Inputs made from seeds, without knowing what they reach: for machines without atheris, and for
the short run that every `make test` makes. Pure: the same number makes the same inputs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

LONGEST: Final = 8192  # bytes of an input
_WORDS: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b": ",
    b" ",
    b"0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Connection: Upgrade\r\nUpgrade: x\r\n",
    b"HTTP/1.1",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x01",
)


def inputs(seeds: Sequence[bytes], number: int) -> Iterator[bytes]:
    """First the seeds as they are, then changed ones, for ever."""
    yield from seeds
    draw = random.Random(number)
    while True:
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 6)):
            _change(data, seeds, draw)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, seeds: Sequence[bytes], draw: random.Random) -> None:
    at = draw.randint(0, len(data))
    end = min(len(data), at + draw.choice((1, 2, 4, 16, 64)))
    kind = draw.randint(0, 6)
    if kind == 0 and at < len(data):
        data[at] = draw.randint(0, 255)
    elif kind == 1 and at < len(data):
        data[at] ^= 1 << draw.randint(0, 7)
    elif kind == 2:
        del data[at:end]
    elif kind == 3:
        data[at:at] = data[at:end]
    elif kind == 4:
        data[at:at] = draw.choice(_WORDS)
    elif kind == 5:
        data[at:at] = draw.randbytes(draw.randint(1, 8))
    else:
        other = draw.choice(seeds)
        cut = draw.randint(0, len(other))
        data[at:] = other[cut:]

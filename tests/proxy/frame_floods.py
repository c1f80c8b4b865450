"""Floods of HTTP/2: each ends its connection early, with a reason of its own."""

from __future__ import annotations

from proxy.http2_frames import (
    ACK,
    CALM,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tests.proxy.frame_scripts import (
    CANCEL_FRAME,
    GET,
    HEAD,
    POSTS,
    broken,
    data,
    head,
    long,
    pairs,
    text,
)

FLOODS = [
    broken("rapid reset", CALM, *pairs(300, head(1), CANCEL_FRAME), reason="rapid_reset"),
    broken(
        "made you reset by a window",
        CALM,
        *pairs(300, head(1), frame(WINDOW_UPDATE, 0, 1, long(2**31 - 1))),
        reason="rapid_reset",
    ),
    broken(
        "made you reset by DATA behind the end",
        CALM,
        *pairs(300, head(1), data(1, b"x")),
        reason="rapid_reset",
    ),
    broken(
        "made you reset by a length",
        CALM,
        *pairs(
            300,
            head(1, POSTS + text(b"content-length", b"1"), END_HEADERS),
            data(1, b"xx", END_STREAM),
        ),
        reason="rapid_reset",
    ),
    broken(
        "made you reset by malformed heads", CALM, *pairs(300, head(1, GET)), reason="rapid_reset"
    ),
    broken(
        "made you reset by trailers",
        CALM,
        *pairs(300, head(1, POSTS, END_HEADERS), head(1, GET)),
        reason="rapid_reset",
    ),
    broken(
        "made you refuse streams",
        CALM,
        *pairs(800, head(1, POSTS, END_HEADERS)),
        reason="rapid_reset",
    ),
    broken(
        "CONTINUATION without end",
        CALM,
        head(1, HEAD, 0),
        *[frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")] * 100,
        reason="continuation_flood",
    ),
    broken(
        "empty CONTINUATION without end",
        CALM,
        head(1, HEAD, 0),
        *[frame(CONTINUATION, 0, 1, b"")] * 100,
        reason="continuation_flood",
    ),
    broken(
        "a block without end",
        CALM,
        head(1, HEAD, 0),
        *[frame(CONTINUATION, 0, 1, bytes(16_000))] * 20,
        reason="continuation_flood",
    ),
    broken("PING flood", CALM, *[frame(PING, 0, 0, bytes(8))] * 1000, reason="ping_flood"),
    broken(
        "PING answers nobody asked for",
        CALM,
        *[frame(PING, ACK, 0, bytes(8))] * 1000,
        reason="ping_flood",
    ),
    broken("SETTINGS flood", CALM, *[frame(SETTINGS, 0, 0, b"")] * 1000, reason="settings_flood"),
    broken(
        "SETTINGS with a thousand entries",
        CALM,
        *[frame(SETTINGS, 0, 0, b"\0\x09\0\0\0\0" * 2700)] * 10,
        reason="settings_flood",
    ),
    broken(
        "empty DATA flood",
        CALM,
        head(1, POSTS, END_HEADERS),
        *[data(1)] * 1000,
        reason="empty_data_flood",
    ),
    broken(
        "padding flood",
        CALM,
        head(1, POSTS, END_HEADERS),
        *[data(1, b"\x00", PADDED)] * 1000,
        reason="empty_data_flood",
    ),
    broken(
        "PRIORITY flood",
        CALM,
        *[frame(PRIORITY, 0, 1, bytes(4) + b"\x01")] * 1000,
        reason="priority_flood",
    ),
    broken(
        "window flood of a connection",
        CALM,
        *[frame(WINDOW_UPDATE, 0, 0, long(1))] * 1000,
        reason="window_flood",
    ),
    broken(
        "window flood of a stream",
        CALM,
        head(1),
        *[frame(WINDOW_UPDATE, 0, 1, long(1))] * 1000,
        reason="window_flood",
    ),
    broken(
        "flood of unknown frames", CALM, *[frame(0x42, 0, 0, b"x")] * 1000, reason="frame_flood"
    ),
    broken(
        "resets of streams long gone",
        CALM,
        head(1, HEAD + text(b"end", b"now")),
        *[CANCEL_FRAME] * 1000,
        reason="reset_flood",
    ),
    broken(
        "a header bomb",
        CALM,
        head(1, HEAD + b"\x40\x01a" + b"\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 10_000),
        reason="header_bomb",
    ),
]

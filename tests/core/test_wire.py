"""The stream between proxy and destination: frames, versions, hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import PeerError
from mesh.core.model import (
    Backend,
    Condition,
    Endpoint,
    Inbound,
    Profile,
    RouteClass,
    Rule,
    Service,
    Source,
    Target,
    Update,
    View,
)
from mesh.core.report import Counts, Report, Series, SeriesKey
from mesh.core.wire import (
    MAX_FRAME,
    FrameReader,
    Hello,
    Message,
    ReportMessage,
    UpdateMessage,
    encode,
)

UPDATE = Update(
    version=3,
    targets={
        "10.96.0.1:80": Target(
            "10.96.0.1:80",
            authority="web.shop.svc.cluster.local:80",
            rules=(Rule((Backend("web-v1.shop.svc.cluster.local:80", 9),)),),
            profile=Profile(
                Source("ServiceProfile", "shop", "web"),
                (RouteClass("r", Condition(all=(Condition(path="/"), Condition(method="GET")))),),
            ),
        ),
        "10.96.0.2:80": None,
    },
    services={"web": Service("web", "shop", "web", 80, (Endpoint("10.0.0.1", 80, "id"),))},
    inbound=Inbound(require_tls=True),
    bundle="PEM",
)
MESSAGES: list[Message] = [
    Hello("shop", "web-1", "uid", "0.1.0"),
    UpdateMessage(UPDATE, first=True),
    ReportMessage(
        Report("a", 1.5, (Series(SeriesKey("inbound", "http"), Counts(latency={3: 4})),))
    ),
]


def test_messages_survive_the_wire_byte_by_byte() -> None:
    reader = FrameReader()
    arrived: list[Message] = []

    for byte in b"".join(encode(message) for message in MESSAGES):
        arrived += reader.feed(bytes((byte,)))

    assert arrived == MESSAGES


def test_an_unknown_type_of_a_newer_peer_is_skipped() -> None:
    body = b'{"type":"from-the-future","x":1}'

    assert FrameReader().feed(len(body).to_bytes(4, "big") + body) == []


def test_an_unknown_field_of_a_newer_peer_is_ignored() -> None:
    body = b'{"type":"ping","id":4,"later":true}'

    (message,) = FrameReader().feed(len(body).to_bytes(4, "big") + body)

    assert message.id == 4  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"type":"hello"}', b'{"type":"ack","version":"x"}']
)
def test_a_malformed_message_is_the_peers_error(body: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        FrameReader().feed(len(body).to_bytes(4, "big") + body)
    assert caught.value.reason == "bad_message"


def test_a_frame_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(PeerError) as caught:
        FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big"))
    assert caught.value.reason == "frame_too_large"


@given(st.binary(max_size=300))
def test_random_bytes_give_messages_or_a_peer_error(data: bytes) -> None:
    reason = ""
    try:
        FrameReader().feed(data)
    except PeerError as error:
        reason = error.reason

    assert reason in ("", "bad_message", "frame_too_large")


def test_an_update_removes_what_is_none_and_keeps_what_it_does_not_name() -> None:
    view = View(
        targets={"10.96.0.2:80": Target("10.96.0.2:80"), "a:1": Target("a:1")}, bundle="old"
    )

    after = view.apply(UPDATE)

    assert set(after.targets) == {"10.96.0.1:80", "a:1"}
    assert after.bundle == "PEM"
    assert after.version == 3
    assert view.bundle == "old"

"""Bodies that kubectl 1.32 sent, decoded; and damaged ones, refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.local.api import protobuf

NAMESPACE = bytes.fromhex(
    "6b3873000a0f0a02763112094e616d657370616365121a0a120a02706212001a0022002a003200380042001200"
    "1a020a001a002200"
)
SECRET = bytes.fromhex(
    "6b3873000a0c0a0276311206536563726574121f0a130a017312001a02706222002a0032003800420012060a01"
    "611201621a001a002200"
)
DEPLOYMENT = bytes.fromhex(
    "6b3873000a150a07617070732f7631120a4465706c6f796d656e7412ab010a1d0a016412001a02706222002a00"
    "3200380042005a080a03617070120164127c0800120a0a080a036170701201641a640a1a0a0012001a0022002a"
    "003200380042005a080a03617070120164124612280a01781203783a312a00320a0a001000185022002a004200"
    "6a007200800100880100900100a201001a00320042004a0052005800600068008201008a01009a0100c2010022"
    "020a00280038001a0c0800100018002000280038001a002200"
)
SERVICE = bytes.fromhex(
    "6b3873000a0d0a02763112075365727669636512680a1d0a016312001a02706222002a003200380042005a080a"
    "0361707012016312430a1e0a0738302d6874747012035443501850220a080110001a0468747470280012080a03"
    "6170701201631a002209436c757374657249503a00420052005a00600068001a020a001a002200"
)
TOKEN_REQUEST = bytes.fromhex(
    "6b3873000a280a1861757468656e7469636174696f6e2e6b38732e696f2f7631120c546f6b656e526571756573"
    "74121d0a100a0012001a0022002a0032003800420012030a01781a040a0012001a002200"
)
ACCESS_REVIEW = bytes.fromhex(
    "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a65637441"
    "6363657373526576696577123c0a100a0012001a0022002a00320038004200121e0a1c0a0764656661756c7412"
    "036765741a0022002a04706f647332003a001a08080012001a0020001a002200"
)
ALL = (NAMESPACE, SECRET, DEPLOYMENT, SERVICE, TOKEN_REQUEST, ACCESS_REVIEW)


def test_empty_fields_of_go_are_left_out() -> None:
    assert protobuf.decode(NAMESPACE) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "pb"},
    }


def test_bytes_become_base64() -> None:
    assert protobuf.decode(SECRET)["data"] == {"a": "Yg=="}


def test_a_zero_behind_a_pointer_is_kept() -> None:
    found = protobuf.decode(DEPLOYMENT)

    assert found["spec"]["replicas"] == 0
    assert found["spec"]["selector"] == {"matchLabels": {"app": "d"}}
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container == {"name": "x", "image": "x:1", "ports": [{"containerPort": 80}]}


def test_numbers_or_strings_are_read_as_what_they_are() -> None:
    port = protobuf.decode(SERVICE)["spec"]["ports"][0]

    assert port == {"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http"}


def test_questions_are_read() -> None:
    assert protobuf.decode(TOKEN_REQUEST)["spec"] == {"audiences": ["x"]}
    assert protobuf.decode(ACCESS_REVIEW)["spec"] == {
        "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}
    }


def test_a_kind_that_is_not_in_the_table_says_so() -> None:
    body = NAMESPACE.replace(b"Namespace", b"Gamespace")

    with pytest.raises(
        protobuf.UnknownKind, match="no protobuf form of Gamespace in v1: send JSON"
    ):
        protobuf.decode(body)


@given(data=st.data())
def test_damaged_bodies_raise_nothing_but_value_errors(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(ALL)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    with contextlib.suppress(ValueError):
        protobuf.decode(bytes(body[: data.draw(st.integers(0, len(body)))]))


@given(st.binary(max_size=64))
def test_noise_raises_nothing_but_value_errors(noise: bytes) -> None:
    with contextlib.suppress(ValueError):
        protobuf.decode(protobuf.MAGIC + noise)

"""What volumes hold, and how they come onto the node."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mesh.local.node.capabilities import CreateError
from mesh.local.node.volumes import File, files, wanted_tokens, write_files

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c"}]},
}
STORED: dict[tuple[str, str], Any] = {
    ("configmaps", "c"): {"data": {"k": "v", "l": "w"}, "binaryData": {"b": "AAE="}},
    ("secrets", "s"): {"data": {"p": "cHc="}},
}


def made(volume: dict[str, Any], tokens: dict[tuple[str, int], str] | None = None) -> Any:
    found = files(POD, volume, lambda *key: STORED.get(key), tokens or {}, {})
    return None if found is None else {name: (file.data, file.mode) for name, file in found.items()}


def test_a_config_map_is_its_data_text_and_binary() -> None:
    assert made({"configMap": {"name": "c"}}) == {
        "k": (b"v", 0o644),
        "l": (b"w", 0o644),
        "b": (b"\0\1", 0o644),
    }


def test_items_choose_paths_and_modes() -> None:
    items = [{"key": "p", "path": "sub/pass", "mode": 0o400}]

    assert made({"secret": {"secretName": "s", "items": items}}) == {"sub/pass": (b"pw", 0o400)}


def test_what_is_missing_stops_the_mount_unless_optional() -> None:
    with pytest.raises(CreateError, match='configmap "none" not found') as caught:
        made({"configMap": {"name": "none"}})

    assert caught.value.reason == "FailedMount"
    assert made({"secret": {"secretName": "none", "optional": True}}) == {}


def test_a_projected_volume_joins_its_sources() -> None:
    sources: list[dict[str, Any]] = [
        {"serviceAccountToken": {"path": "token", "audience": "x", "expirationSeconds": 700}},
        {"configMap": {"name": "c", "items": [{"key": "k", "path": "ca"}]}},
        {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]

    found = made({"projected": {"sources": sources}}, {("x", 700): "secret-token"})

    assert {name: data for name, (data, _) in found.items()} == {
        "token": b"secret-token",
        "ca": b"v",
        "l": b'a="b"',
    }


def test_the_tokens_of_a_pod_are_asked_for_once_each() -> None:
    token = {"serviceAccountToken": {"path": "t", "audience": "x", "expirationSeconds": 60}}
    volume = {"name": "v", "projected": {"sources": [token, token]}}

    assert wanted_tokens({"spec": {"volumes": [volume, volume]}}) == [("x", 600)]


def test_a_kind_of_volume_that_is_not_there_is_named() -> None:
    with pytest.raises(CreateError, match="mesh local has no nfs volumes"):
        made({"name": "v", "nfs": {}})


@pytest.mark.root
def test_an_update_is_one_step_and_leaves_nothing_old(root: None, tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write_files(folder, {"a": File(b"1", 0o644), "d/x": File(b"1", 0o644)}, POD)
    before = os.open(folder / "a", os.O_RDONLY)

    write_files(folder, {"a": File(b"2", 0o600), "b": File(b"2", 0o644)}, POD)

    assert (folder / "a").read_bytes() == b"2"
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["..2", "..data", "a", "b"]
    assert os.read(before, 9) == b"1"
    os.close(before)


@pytest.mark.root
@pytest.mark.parametrize(
    ("context", "mode", "owner"),
    [
        ({}, 0o644, (0, 0)),
        ({"runAsUser": 2102}, 0o600, (2102, 0)),
        ({"runAsUser": 2102, "fsGroup": 7}, 0o640, (0, 7)),
    ],
)
def test_a_token_is_readable_for_those_who_run(
    root: None, tmp_path: Path, context: dict[str, int], mode: int, owner: tuple[int, int]
) -> None:
    pod = {**POD, "spec": {**POD["spec"], "securityContext": context}}

    write_files(tmp_path / "v", {"token": File(b"t", 0o644, token=True)}, pod)

    found = (tmp_path / "v" / "token").stat()
    assert (stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)) == (mode, owner)

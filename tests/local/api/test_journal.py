"""The journal: state over a restart, compaction, a torn line, damage, and a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import ApiError, ConfigError
from mesh.local.api import journal as journals
from mesh.local.api.journal import Journal
from mesh.local.api.store import Store


def config(name: str, value: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n"}, "data": {"v": value}}


def opened(path: Path) -> Store:
    return Store(journal=Journal(path))


def names(store: Store) -> list[str]:
    return [obj["metadata"]["name"] for obj in store.scan("configmaps")]


def test_objects_and_revisions_survive_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path / "journal")
    store.create("configmaps", config("a"))
    store.create("configmaps", config("b"))
    store.update("configmaps", config("b", "2"))
    store.delete("configmaps", "n", "a")

    again = opened(tmp_path / "journal")

    assert list(again.scan("configmaps")) == list(store.scan("configmaps"))
    assert again.revision == store.revision
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


def test_a_watch_from_before_the_restart_is_told_to_list_again(tmp_path: Path) -> None:
    store = opened(tmp_path / "journal")
    store.create("configmaps", config("a"))
    store.create("configmaps", config("b"))

    with pytest.raises(ApiError) as refused:
        opened(tmp_path / "journal").watch("configmaps", since=store.revision - 1)

    assert refused.value.code == 410


@pytest.mark.parametrize("torn", [b"[5,", b'[5,"configmaps","n","c",{"metadata":{}}]', b"\x80\x00"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "journal"
    opened(path).create("configmaps", config("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)

    store = opened(path)
    assert path.read_bytes() == whole
    store.create("configmaps", config("b"))

    assert names(opened(path)) == ["a", "b"]


def test_damage_before_the_last_line_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    store = opened(path)
    store.create("configmaps", config("a"))
    store.create("configmaps", config("b"))
    path.write_bytes(b"x" + path.read_bytes())

    with pytest.raises(ConfigError, match=r"journal: line 1 is damaged .* move the file away"):
        opened(path)


def test_the_journal_is_rewritten_when_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "COMPACT_AT", 2000)
    store = opened(tmp_path / "journal")
    store.create("configmaps", config("a"))
    store.create("configmaps", config("gone"))
    store.delete("configmaps", "n", "gone")
    for number in range(200):
        store.update("configmaps", config("a", str(number)))

    again = opened(tmp_path / "journal")

    assert (tmp_path / "journal").stat().st_size < 4000
    assert again.get("configmaps", "n", "a")["data"] == {"v": "199"}
    assert names(again) == ["a"]
    assert again.revision == store.revision


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    store = opened(path)
    store.create("configmaps", config("a"))
    real = os.write
    room = 10

    def half(fd: int, data: bytes) -> int:
        return real(fd, data[:room])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(
        ApiError, match=r"cannot write .*journal: the disk is full; nothing was"
    ) as e:
        store.create("configmaps", config("b"))
    with pytest.raises(ApiError):
        store.delete("configmaps", "n", "a")
    monkeypatch.undo()

    assert e.value.code == 507
    assert names(store) == ["a"]
    store.create("configmaps", config("c"))
    assert names(opened(path)) == ["a", "c"]


def test_a_write_error_names_the_file_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "journal")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ApiError, match=r"No space left on device; .* free some space and try"):
        store.create("configmaps", config("a"))

    assert names(store) == []

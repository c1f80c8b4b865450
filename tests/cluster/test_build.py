"""What decides the binary, and what the builder says when it cannot build."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import build


def test_the_flags_name_the_version_of_go_mod() -> None:
    version = build.kubernetes_version()

    flags = build.link_flags(version)

    assert f"-X k8s.io/component-base/version.gitVersion={version}" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=34" in flags


def test_an_edit_of_the_sources_changes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build.cache_folder()
    for name in build.HASHED:
        (tmp_path / name).write_bytes((build.SOURCES / name).read_bytes())
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert build.cache_folder() == before

    (tmp_path / "main.go").write_text("package main\n")

    assert build.cache_folder() != before


def test_the_cache_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert build.cache_folder().parent == tmp_path / "lightmesh"


@pytest.mark.parametrize(
    ("said", "found"), [("go1.23.4", "found go1.23.4"), ("", "found no version")]
)
def test_an_old_go_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, found: str
) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho {said}\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(build.BuildError, match=rf"needs Go 1\.24, {found}"):
        build.check_go()


def test_a_failed_build_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\n[ "$1" = env ] && echo go1.26.0 || { echo no space left; exit 1; }\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(build.BuildError, match="no space left"):
        build.built_components()

    assert [path.name for path in build.cache_folder().iterdir() if path.is_dir()] == []
    assert not (build.cache_folder() / "components").exists()

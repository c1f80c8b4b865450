"""What decides a binary, and what the builder says when it cannot build."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.build import COMPONENTS, COREDNS, PAUSE
from tests.cluster.cache import BuildError, kept
from tests.cluster.tools import KUBECTL, missing_folder

# A machine whose Go, if any, is not at its usual place either.
_WITHOUT_GO = """
import runpy, shutil
shutil.which = lambda name, *_: None
runpy.run_module("tests.cluster.tools", run_name="__main__")
"""


def test_the_flags_name_the_version_of_go_mod() -> None:
    version = build.kubernetes_version()

    flags = build.link_flags(COMPONENTS)

    assert f"-X k8s.io/component-base/version.gitVersion={version}" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=34" in flags


def test_kubectl_is_as_new_as_the_components_and_says_so() -> None:
    assert build.required_version(KUBECTL) == build.kubernetes_version()


def test_a_kubectl_of_path_that_is_new_enough_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\necho \'{"clientVersion": {"major": "1", "minor": "30"}}\'\n')
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    assert missing_folder() is None


def test_without_kubectl_and_go_one_line_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_GO],
        env={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("no kubectl 1.28 or newer in PATH, and none can be built: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_edit_of_the_sources_changes_the_folder(tmp_path: Path) -> None:
    for name in build.HASHED:
        (tmp_path / name).write_bytes((COMPONENTS.sources / name).read_bytes())
    copy = tmp_path.rename(tmp_path.with_name("components"))
    program = replace(COMPONENTS, sources=copy)
    assert program.folder == COMPONENTS.folder

    (copy / "main.go").write_text("package main\n")

    assert program.folder != COMPONENTS.folder


def test_the_cache_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert COMPONENTS.folder.parent == tmp_path / "lightmesh"


def test_what_failed_half_way_is_not_kept(tmp_path: Path) -> None:
    def fail(made: Path) -> None:
        made.write_text("half")
        raise BuildError("no space left")

    with pytest.raises(BuildError):
        kept(tmp_path / "thing-0123", "thing", fail)

    assert not (tmp_path / "thing-0123" / "thing").exists()
    assert kept(tmp_path / "thing-0123", "thing", lambda made: made.touch()).exists()


def test_only_the_newest_versions_of_a_thing_are_kept(tmp_path: Path) -> None:
    (tmp_path / "things-0000").mkdir()

    for number in range(5):
        kept(tmp_path / f"thing-{number:04}", "thing", lambda made: made.touch())

    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["thing-0002", "thing-0003", "thing-0004", "things-0000"]


@pytest.mark.parametrize("program", [COMPONENTS, COREDNS, PAUSE], ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("said", "found"), [("go1.23.4", "found go1.23.4"), ("", "found no version")]
)
def test_an_old_go_is_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: build.Program,
    said: str,
    found: str,
) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho {said}\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(BuildError, match=rf"needs Go 1\.\d+, {found}"):
        build.check_go(program)


def test_a_failed_build_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\n[ "$1" = env ] && echo go1.26.0 || { echo no space left; exit 1; }\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(BuildError, match="no space left"):
        build.built_components()

    assert [path.name for path in COMPONENTS.folder.iterdir() if path.is_dir()] == []
    assert not (COMPONENTS.folder / "components").exists()

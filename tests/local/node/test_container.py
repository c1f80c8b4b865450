"""Pieces of a container's start that can be seen without one."""

from __future__ import annotations

import os
from pathlib import Path

from mesh.local.node.container import _make_reachable, _prepare_target


def test_a_link_to_nowhere_gives_way_to_a_mount_point(tmp_path: Path) -> None:
    link = tmp_path / "resolv.conf"
    link.symlink_to("/run/systemd/resolve/none/stub-resolv.conf")

    _prepare_target(str(link), directory=False)

    assert link.is_file()
    assert not link.is_symlink()


def test_a_link_that_leads_somewhere_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    link = tmp_path / "var-run"
    link.symlink_to("run")

    _prepare_target(str(link / "secrets" / "token"), directory=False)

    assert link.is_symlink()
    assert (tmp_path / "run" / "secrets" / "token").is_file()


def test_everyone_may_pass_through_the_ancestors_and_nobody_may_list_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    inner = home / "python" / "bin"
    inner.mkdir(parents=True)
    home.chmod(0o700)

    _make_reachable(str(inner))

    assert os.stat(home).st_mode & 0o777 == 0o711

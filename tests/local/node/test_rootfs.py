"""What an overlay over the machine's root lacks, and so is bound."""

from __future__ import annotations

from pathlib import Path

from mesh.local.node.rootfs import (
    MESH,
    Mount,
    Python,
    link_folders,
    parse_mountinfo,
    reachable,
    system_binds,
)

DEBIAN = Python(prefix="/home/me/mesh/.venv", base_prefix="/usr", source="/home/me/mesh")
ROOT = Mount("/", "ext4")


def targets(python: Python, *mounts: Mount) -> list[str]:
    return [target for _, target, _ in system_binds(python, [ROOT, *mounts])]


def test_mountinfo_is_read_with_its_escapes() -> None:
    text = (
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        r"40 27 0:40 / /mnt/a\040b rw shared:5 - tmpfs none rw" + "\n"
    )

    assert parse_mountinfo(text) == [ROOT, Mount("/mnt/a b", "tmpfs")]


def test_source_and_environment_are_always_bound_because_they_change() -> None:
    assert targets(DEBIAN) == ["/home/me/mesh", MESH]


def test_an_environment_outside_of_the_source_is_bound_at_its_own_path_too() -> None:
    python = Python("/srv/venv", "/usr", "/home/me/mesh")

    assert targets(python) == ["/home/me/mesh", "/srv/venv", MESH]


def test_an_interpreter_on_another_mount_is_bound() -> None:
    python = Python("/home/me/venv", "/home/me/.pyenv/versions/3.11.7", "/srv/mesh")

    assert "/home/me/.pyenv/versions/3.11.7" in targets(python, Mount("/home", "ext4"))
    assert "/home/me/.pyenv/versions/3.11.7" not in targets(python)


def test_an_interpreter_below_tmp_is_bound_because_pods_have_their_own_tmp() -> None:
    python = Python("/tmp/venv", "/tmp/python", "/srv/mesh")

    assert "/tmp/python" in targets(python)


def test_the_links_to_the_interpreter_are_followed_folder_by_folder(tmp_path: Path) -> None:
    real = tmp_path / "python-3.11" / "bin" / "python3.11"
    shim = tmp_path / "local" / "bin" / "python3"
    venv = tmp_path / "venv" / "bin" / "python"
    for path in (real, shim, venv):
        path.parent.mkdir(parents=True)
    real.touch()
    shim.symlink_to("../../python-3.11/bin/python3.11")
    venv.symlink_to(shim)

    assert link_folders(str(venv)) == (str(shim.parent), str(real.parent))
    assert link_folders(str(real)) == ()


def test_a_link_on_another_mount_is_bound_too() -> None:
    python = Python("/srv/venv", "/usr", "/srv/mesh", ("/home/me/bin", "/usr/bin"))

    assert "/home/me/bin" in targets(python, Mount("/home", "ext4"))
    assert "/home/me/bin" in reachable(python)
    assert "/usr/bin" not in targets(python, Mount("/home", "ext4"))


def test_system_folders_on_other_mounts_are_bound_and_kernel_mounts_are_not() -> None:
    found = targets(DEBIAN, Mount("/usr", "ext4"), Mount("/opt", "proc"), Mount("/data", "ext4"))

    assert "/usr" in found
    assert "/opt" not in found
    assert "/data" not in found

"""Container logs: stamped lines in bounded files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.local.node.logs import Lines, LogFile, stamp

NOW = 1_700_000_000.25
HEAD = b"2023-11-14T22:13:20.250000000Z "


def test_a_stamp_has_nanoseconds() -> None:
    assert stamp(NOW) == HEAD


def test_a_line_is_written_once_it_is_whole() -> None:
    lines = Lines()

    assert lines.feed(b"one\ntw", NOW) == HEAD + b"one\n"
    assert lines.feed(b"o\n", NOW) == HEAD + b"two\n"
    assert lines.flush(NOW) == b""


def test_the_last_line_needs_no_end() -> None:
    lines = Lines()
    lines.feed(b"bye", NOW)

    assert lines.flush(NOW) == HEAD + b"bye\n"


def test_an_endless_line_is_cut() -> None:
    lines = Lines()

    assert lines.feed(b"x" * 20_000, NOW).endswith(b"x\n")


def test_a_log_keeps_two_bounded_files(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "c.log", limit=100)

    for number in range(50):
        log.write(b"%09d\n" % number)
    log.close()

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["c.log", "c.log.1"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert (tmp_path / "c.log").read_bytes().endswith(b"000000049\n")


def test_a_full_disk_loses_lines_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = tmp_path / "c.log"
    full.symlink_to("/dev/full")
    log = LogFile(full)

    log.write(b"lost\n")
    log.write(b"lost again\n")
    log.close()

    assert [record.getMessage().partition(" path=")[0] for record in caplog.records] == [
        "container log lost"
    ]

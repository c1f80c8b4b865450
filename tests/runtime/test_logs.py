"""Lines of logs: their forms, and that a stuck, full or closed descriptor holds up nobody."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.runtime.lines import LineWriter
from mesh.runtime.logs import LineHandler


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds 4096 bytes, its writing end blocking as stderr is."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def drain(fd: int) -> bytes:
    data = b""
    try:
        while part := os.read(fd, 65536):
            data += part
    except BlockingIOError:
        pass
    return data


def record(text: str, *, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("x", logging.WARNING, "", 0, text, None, info)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    return made


def test_a_pipe_that_nobody_reads_loses_lines_and_holds_up_nobody(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    for _ in range(100):
        writer.write(["x" * 99 + "\n"])  # 10,000 bytes: a blocking write would hang here
    assert writer.lost == 60
    assert drain(reading) == (b"x" * 99 + b"\n") * 40
    assert os.get_blocking(writing), "others share this descriptor: its flags are not ours"


def test_a_line_taken_in_part_is_finished_before_the_next(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    writer.write(["a" * 2999 + "\n", "b" * 2999 + "\n", "c\n", "d\n"])
    got = drain(reading)
    writer.write(["e\n"])
    assert (got + drain(reading)).decode() == "a" * 2999 + "\n" + "b" * 2999 + "\ne\n"
    assert writer.lost == 2


def test_a_pipe_that_cannot_be_opened_again_is_polled(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("a pipe of another user")

    reading, writing = pipe
    monkeypatch.setattr(os, "open", refuse)
    writer = LineWriter(writing)
    writer.write(["a" * 4095 + "\n", "b\n"])
    writer.write(["c\n"])
    assert writer.lost == 2
    assert drain(reading) == b"a" * 4095 + b"\n"
    writer.write(["d\n"])
    assert drain(reading) == b"d\n"


def test_a_socket_that_nobody_reads_loses_lines() -> None:
    far, near = socket.socketpair()
    with far, near:
        writer = LineWriter(near.fileno())
        while not writer.lost:
            writer.write(["x" * 65536 + "\n"])
        writer.close()
        assert near.getblocking()


def test_a_file_is_appended_to_and_a_full_disk_counted(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        LineWriter(file.fileno()).write(["a\n"])
        LineWriter(file.fileno()).write(["b\n"])
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"
    with open("/dev/full", "wb", buffering=0) as full:
        writer = LineWriter(full.fileno())
        writer.write(["a\n", "b\n"])
    assert writer.lost == 2


def test_a_closed_descriptor_loses_every_line() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    writer = LineWriter(writing)
    writer.write(["a\n"])
    writer.write(["b\n"])
    assert writer.lost == 2


@pytest.mark.parametrize(
    ("as_json", "line"),
    [
        (False, '2023-11-14T22:13:20.250Z warning proxy: it is "so"\n'),
        (
            True,
            '{"time": "2023-11-14T22:13:20.250Z", "level": "warning", "role": "proxy", '
            '"msg": "it is \\"so\\""}\n',
        ),
    ],
)
def test_a_record_is_one_line_with_time_level_and_role(
    pipe: tuple[int, int], as_json: bool, line: str
) -> None:
    LineHandler(as_json=as_json, role="proxy", fd=pipe[1]).emit(record('it is "so"'))
    assert drain(pipe[0]).decode() == line


def test_a_traceback_travels_in_its_record(pipe: tuple[int, int]) -> None:
    handler = LineHandler(as_json=True, role="proxy", fd=pipe[1])
    handler.emit(record("failed", error=ValueError("why")))
    assert json.loads(drain(pipe[0]))["msg"] == "failed\nValueError: why"


def test_records_that_stderr_does_not_take_are_counted(pipe: tuple[int, int]) -> None:
    handler = LineHandler(as_json=False, role="proxy", fd=pipe[1])
    for _ in range(10):
        handler.emit(record("x" * 1000))
    assert handler.lost == 7

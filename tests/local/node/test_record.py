"""The note of a cluster, and what /proc says of its first process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from mesh.local.node import record


def test_a_process_that_lives_is_not_ending() -> None:
    assert not record.is_ending(os.getpid())


def test_a_process_that_was_killed_is_ending_before_it_is_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        child.send_signal(signal.SIGKILL)

        assert record.is_ending(child.pid)


def test_a_process_that_is_gone_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

    assert record.is_ending(child.pid)

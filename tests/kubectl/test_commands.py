"""Real kubectl against the embedded API server: each block prints what the file says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.kubectl.runner import COMMANDS, Difference, normalise, parse, run_block
from tests.local.api.conftest import Server

KUBECTL = shutil.which("kubectl")
BLOCKS = parse(COMMANDS.read_text())


@pytest.fixture(scope="module")
def differences(server: Server) -> Iterator[dict[str, Future[list[Difference]]]]:
    """What each block printed otherwise than expected; the blocks run two at a time."""
    if KUBECTL is None:
        pytest.skip("needs kubectl on PATH")
    with ThreadPoolExecutor(2) as pool:
        yield {
            block.name: pool.submit(
                run_block, block, kubeconfig=server.kubeconfig, kubectl=KUBECTL, real=False
            )
            for block in BLOCKS
        }


@pytest.mark.parametrize("name", [block.name for block in BLOCKS])
def test_kubectl_prints_what_the_commands_file_says(
    name: str, differences: dict[str, Future[list[Difference]]]
) -> None:
    found = differences[name].result()

    assert not found, "\n\n".join(map(str, found))


def test_a_block_is_read_with_its_files_commands_and_outputs() -> None:
    (block,) = parse(
        "# words\n\n## one\n--- file a.yaml\n$ not a command\n--- end\n"
        "$ kubectl a\nout\n[1]\n? kubectl b\n"
    )

    assert (block.name, block.files) == ("one", {"a.yaml": "$ not a command\n"})
    assert [(c.line, c.expected, c.local_only) for c in block.commands] == [
        ("kubectl a", "out\n[1]", False),
        ("kubectl b", "", True),
    ]


def test_what_differs_from_run_to_run_is_normalised() -> None:
    text = "NAME   AGE    IP\nweb    3m5s   10.1.2.3  \nuid: 0a1b2c3d-0000-1111-2222-333344445555\n"

    assert normalise(text) == "NAME  AGE  IP\nweb  <age>  <ip>\nuid: <uid>"


def test_all_blocks_use_namespaces_of_their_own() -> None:
    made = [
        command.line.split()[3]
        for block in BLOCKS
        for command in block.commands
        if command.line.startswith("kubectl create namespace ns-")
    ]

    assert len(set(made)) >= len(BLOCKS) - 1

"""The kubectl commands that the embedded API server supports, against a real one.

tests/kubectl/test_commands.py holds the embedded one to the same file, so both print the same.
"""

from __future__ import annotations

import shutil

import pytest

from tests.cluster.server import ApiServer
from tests.kubectl.runner import COMMANDS, Block, parse, run_block

pytestmark = pytest.mark.cluster

BLOCKS = parse(COMMANDS.read_text())


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_kubectl_prints_what_the_commands_file_says(block: Block, api_server: ApiServer) -> None:
    path = shutil.which("kubectl")
    if path is None:
        pytest.fail("kubectl is not in PATH: install 1.28 or newer", pytrace=False)

    found = run_block(block, kubeconfig=api_server.admin, kubectl=path, real=True)

    assert not found, "\n\n".join(map(str, found))

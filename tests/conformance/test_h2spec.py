"""h2spec against both sides of a pair of proxies, with a real HTTP/2 server behind them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cluster.build import built
from tests.cluster.cache import BuildError
from tests.conformance.build import H2SPEC
from tests.conformance.pair import running, started

CASES = 145
SECONDS = 3  # that a case waits for an answer: a busy machine needs more than one

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def h2spec() -> str:
    try:
        return str(built(H2SPEC))
    except BuildError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize("side", ["outbound", "inbound"])
def test_every_case_of_h2spec_passes(side: str, h2spec: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    with started(h2spec, "-serve") as port, running(int(port)) as ports:
        command = [h2spec, "-p", str(getattr(ports, side)), "-o", str(SECONDS), "-j", str(report)]
        subprocess.run(command, check=False, capture_output=True, timeout=200)

    suites = ElementTree.parse(report).getroot().iter("testsuite")
    cases = [case for suite in suites for case in suite.iter("testcase")]

    failed = [case.get("classname") for case in cases if case.find("failure") is not None]
    assert failed == []
    assert len(cases) == CASES

"""The table of reasons against the code that gives them, and against its page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mesh.runtime import tls
from proxy.answer import Outcome
from proxy.reasons import REASONS, render

ROOT = Path(__file__).parents[2]
_CALLS = re.compile(
    r"""(?:PeerError|_refuse|client_gone|server_lost|on_lost|_fail)\(\s*"([a-z][a-z0-9_-]+)"
    |error\s=\s(?:[a-z.]+\sor\s)?"([a-z][a-z0-9-]+)"
    |error="([a-z][a-z0-9-]+)\"""",
    re.VERBOSE,
)
# Words of the framing that the pipeline turns into an outcome of another name.
_INSIDE = {"refused-stream", "invalid-framing"}


def words() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "proxy").glob("*.py")):
        for match in _CALLS.finditer(path.read_text()):
            word = next(group for group in match.groups() if group)
            yield path.name, word.replace("_", "-")
    for outcome in Outcome:
        yield "answer.py", outcome.value.reason
    for word in tls._VERIFY_REASONS.values():
        yield "tls.py", word


def test_every_word_of_the_proxy_is_in_the_table() -> None:
    missing = {
        (file, word) for file, word in words() if word not in REASONS and word not in _INSIDE
    }

    assert missing == set()


def test_every_word_of_the_table_is_given_by_the_proxy() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "proxy").glob("*.py"))
    sources = sources.replace((ROOT / "proxy/reasons.py").read_text(), "")
    sources += (ROOT / "mesh/runtime/tls.py").read_text()

    idle = {
        c for c in REASONS if f'"{c}"' not in sources and f'"{c.replace("-", "_")}"' not in sources
    }
    assert idle == set()


def test_every_reason_has_a_meaning_and_a_remedy() -> None:
    for reason in REASONS.values():
        assert reason.meaning.endswith((".", ")"))
        assert reason.remedy


def test_statuses_are_those_of_the_outcomes() -> None:
    for outcome in Outcome:
        listed = REASONS[outcome.value.reason].status
        assert str(outcome.value.status) in listed


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs/reasons.md").read_text() == render()

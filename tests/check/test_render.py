from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mesh.check.facts import Facts, Read
from mesh.check.model import Category, Check, Fault, Result, Severity, judge
from mesh.check.render import SilentDisplay, TableDisplay, render_json
from mesh.check.run import run_checks
from tests.check.world import healthy
from tests.support.golden import check_golden


def good(facts: Facts) -> Iterator[Fault]:
    yield from ()


def bad(facts: Facts) -> Iterator[Fault]:
    yield Fault("pod shop/web-1", "is not ready", "`kubectl -n shop describe pod web-1`")
    yield Fault("pod shop/web-2", "is not ready", "`kubectl -n shop describe pod web-2`")


def minor(facts: Facts) -> Iterator[Fault]:
    yield Fault("node a", "its clock is late", "set the clock")


def many(facts: Facts) -> Iterator[Fault]:
    for number in range(12):
        yield Fault(f"pod shop/web-{number}", "is old", "restart it")


CATEGORIES = (
    Category("kubernetes-api", (Check("the API server answers", good),)),
    Category(
        "mesh-data-plane",
        (
            Check("every proxy is ready", bad),
            Check("clocks agree", minor, Severity.WARNING),
            Check("every proxy is current", many, Severity.WARNING),
        ),
    ),
    Category("last", (Check("all is well", good),)),
)


def results() -> list[Result]:
    return [judge(cat, check, healthy()) for cat in CATEGORIES for check in cat.checks]


def shown(found: list[Result], *, short: bool = False, encoding: str = "utf-8") -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    display = TableDisplay(out, io.StringIO(), short=short)
    for result in found:
        display.settled(result)
    display.finish(found)
    out.seek(0)
    return out.read()


def test_the_table_is_linkerds_with_remedies_inline() -> None:
    check_golden("check_table.txt", shown(results()))


def test_short_shows_only_what_is_wrong() -> None:
    check_golden("check_short.txt", shown(results(), short=True))


def test_short_of_a_healthy_mesh_is_the_status_line() -> None:
    assert shown([results()[0]], short=True) == "Status check results are √\n"


def test_json_has_linkerds_fields_and_every_fault() -> None:
    text = render_json(results())

    check_golden("check.json", text)
    answer = json.loads(text)
    assert answer["success"] is False
    assert len(answer["categories"][1]["checks"][2]["faults"]) == 12


def test_a_terminal_without_unicode_gets_ascii_marks() -> None:
    assert "x every proxy is ready" in shown(results(), encoding="ascii")


class Healing:
    """A cluster whose proxies are ready at the third look; and a clock without time."""

    def __init__(self, looks: int = 3) -> None:
        self.looks = looks
        self.seen = 0
        self.now = 0.0
        self.fault = Fault("pod shop/web-1", "Pending; last event: Pulling: image", "wait")

    async def gather(self) -> Facts:
        self.seen += 1
        return replace(healthy(), namespaces=Read([{}] * self.seen))

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ready(self, facts: Facts) -> Iterator[Fault]:
        if len(facts.namespaces.value) < self.looks:
            yield self.fault

    async def run(
        self, *, wait: float, retryable: bool = True, fatal: bool = False
    ) -> list[Result]:
        severity = Severity.FATAL if fatal else Severity.ERROR
        first = Check("every proxy is ready", self.ready, severity, retryable=retryable)
        categories = [Category("one", (first, Check("the next", good)))]
        return await run_checks(
            categories,
            self.gather,
            SilentDisplay(),
            wait=wait,
            clock=self.clock,
            sleep=self.sleep,
        )


pytestmark = pytest.mark.anyio


async def test_what_time_may_heal_is_looked_at_again_until_it_is_well() -> None:
    cluster = Healing()

    results = await cluster.run(wait=60)

    assert [bool(result.faults) for result in results] == [False, False]
    assert cluster.seen == 3


async def test_waiting_ends_with_its_budget_and_the_other_checks_still_run() -> None:
    cluster = Healing(looks=1000)

    results = await cluster.run(wait=5)

    assert [bool(result.faults) for result in results] == [True, False]
    assert cluster.now == 5


async def test_without_wait_or_for_what_time_cannot_heal_there_is_one_look() -> None:
    for cluster, wait, retryable in ((Healing(), 0.0, True), (Healing(), 60.0, False)):
        await cluster.run(wait=wait, retryable=retryable)
        assert cluster.seen == 1


@pytest.mark.parametrize("field", ["minor", "lasting"])
async def test_nobody_waits_for_a_warning_or_for_a_right(field: str) -> None:
    cluster = Healing()
    cluster.fault = Fault("you", "may not look", "ask", **{field: True})

    await cluster.run(wait=60)

    assert cluster.seen == 1


async def test_a_fatal_fault_ends_the_checks() -> None:
    assert len(await Healing().run(wait=0, fatal=True)) == 1


def test_each_new_state_of_a_waiting_check_is_told_once() -> None:
    progress = io.StringIO()
    display = TableDisplay(io.StringIO(), progress)

    for _ in range(3):
        display.waiting(results()[1])

    assert progress.getvalue() == (
        "waiting: every proxy is ready (pod shop/web-1: is not ready, and 1 more)\n"
    )


def test_on_a_terminal_the_waiting_line_is_replaced() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    display = TableDisplay(out, io.StringIO())

    display.waiting(results()[1])
    display.settled(results()[1])

    assert "\r\x1b[K.. every proxy is ready (pod shop/web-1: is not ready" in out.getvalue()
    assert "\r\x1b[K\x1b[31mx" in out.getvalue() or "\r\x1b[K\x1b[31m×" in out.getvalue()  # noqa: RUF001

"""mesh routes: requests by route, and what retries did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from mesh.core import labels
from mesh.core.report import Counts, ReportsAnswer, Series, SeriesKey, WindowReport
from mesh.stat.routes import DEFAULT, render_routes, route_rows
from mesh.stat.routes_command import routes
from tests.stat.test_collect import REPORTS, world
from tests.support.fake_api import running_fake_api

APEX = "orders.shop.svc.cluster.local:80"


def series(direction: str, route: str, **counts: Any) -> Series:
    return Series(
        SeriesKey(direction, "http", apex=APEX, route=route), Counts(**counts, born=1.0, last=60.0)
    )


def report(*found: Series, pod: str = "web-1", workload: str = "deployment/web") -> WindowReport:
    return WindowReport("shop", pod, 0.0, 60.0, 0.5, True, found, workload)


def test_requests_are_told_apart_by_route() -> None:
    one = series("inbound", "list", requests=60, successes=60)
    two = series("inbound", "", requests=30, successes=15, failures=15)

    rows = route_rows([report(one, two)], of=lambda report: True)

    assert [(row.route, row.figures.requests, row.figures.success) for row in rows] == [
        ("list", 60, 1.0),
        (DEFAULT, 30, 0.5),
    ]


def test_requests_that_no_profile_names_have_a_line_without_a_service() -> None:
    plain = Series(SeriesKey("inbound", "http"), Counts(requests=60, successes=60, born=1.0))
    probe = Series(
        SeriesKey("inbound", "http", route=labels.PROBE_ROUTE), Counts(requests=9, born=1.0)
    )

    (row,) = route_rows([report(plain, probe)], of=lambda report: True)

    assert row.figures.requests == 60
    assert render_routes([row], wide=False).splitlines()[1].split()[:2] == [DEFAULT, "-"]


def test_tries_are_told_beside_requests() -> None:
    sent = series("outbound", "list", requests=60, successes=60, retried=20)

    (row,) = route_rows([report(sent)], of=lambda report: True, to="orders.shop")

    assert (row.figures.success, row.actual_success) == (1.0, 0.75)
    assert row.figures.rps is not None
    assert row.actual_rps == pytest.approx(row.figures.rps * 80 / 60)
    wide = render_routes([row], wide=True).splitlines()
    assert wide[0].split()[2:6] == [
        "EFFECTIVE_SUCCESS", "EFFECTIVE_RPS", "ACTUAL_SUCCESS", "ACTUAL_RPS"
    ]  # fmt: skip
    assert wide[1].split()[:3] == ["list", "orders.shop", "100.00%"]


def run(folder: Path, *arguments: str, reports: tuple[WindowReport, ...] = ()) -> Result:
    answer = msgspec.json.encode(ReportsAnswer(60.0, reports))
    with running_fake_api(world() | {REPORTS: answer}) as api:
        return CliRunner().invoke(routes, [*arguments, "--kubeconfig", api.kubeconfig(folder)])


def test_the_command_shows_the_workload_that_was_named(tmp_path: Path) -> None:
    mine = report(series("inbound", "list", requests=60, successes=60))
    other = report(
        series("inbound", "list", requests=9, successes=9), pod="db-1", workload="deployment/db"
    )

    result = run(tmp_path, "deploy/web", "-n", "shop", "-o", "json", reports=(mine, other))

    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert (row["route"], row["requests"]) == ("list", 60)


def test_a_workload_and_another_service_at_once_is_wrong_usage(tmp_path: Path) -> None:
    assert run(tmp_path, "svc/orders", "--to", "svc/x", "-n", "shop").exit_code == 2
    assert run(tmp_path, "deploy/web", "--to", "deploy/x", "-n", "shop").exit_code == 2


@pytest.mark.parametrize("name", ["deploy/wed", "svc/nope", "pod/none"])
def test_what_is_not_there_is_named_and_fails(tmp_path: Path, name: str) -> None:
    result = run(tmp_path, name, "-n", "shop")

    assert result.exit_code == 1
    assert "found none in namespace shop" in result.stderr


def test_a_workload_without_traffic_is_no_failure(tmp_path: Path) -> None:
    result = run(tmp_path, "deploy/web", "-n", "shop", "--to", "svc/orders")

    assert result.exit_code == 0
    assert "No traffic found" in result.stderr

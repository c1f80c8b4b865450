"""ip_tables, the older interface of the kernel, through python-iptables.

Each change runs in a forked child: libxtables cannot load the REDIRECT target of both families
in one process. The child edits a copy of the nat table and commits it with one system call, so
a kill leaves the old table or the new one. Reading back goes through `iptables-legacy-save`, a
second program, and only where the kernel already has the table: a look must not create one.
"""

from __future__ import annotations

import glob
import os
import sys
import sysconfig
import warnings
from collections.abc import Callable
from typing import Any, Final

from init.backend import RedirectError, refusal, save_nat
from init.plan import Family, FamilyPlan, Rule
from init.restore import Standing, spell_ports

TABLES_FILE: Final = {
    Family.V4: "/proc/net/ip_tables_names",
    Family.V6: "/proc/net/ip6_tables_names",
}
_LIBRARIES: Final = "/usr/lib/*/xtables"


class LegacyBackend:
    """The kernel's ip_tables and ip6_tables."""

    name = "legacy"

    def __init__(self, iptc: Any | None = None) -> None:
        self._iptc = iptc

    def read(self, family: Family) -> Standing:
        """What stands; nothing does while the network namespace has no nat table."""
        return save_nat(family, "legacy") if has_nat(family) else Standing()

    def apply(self, plan: FamilyPlan, standing: Standing) -> None:
        """Put the plan in with one commit."""
        self._in_child(plan.family, lambda table: _fill(self._load(), table, plan, standing))

    def remove(self, family: Family, standing: Standing) -> None:
        """Take ours away with one commit."""
        if not standing.is_empty():
            self._in_child(family, lambda table: _clear(table, standing))

    def _load(self) -> Any:
        if self._iptc is None:
            self._iptc = load_iptc()
        return self._iptc

    def _in_child(self, family: Family, change: Callable[[Any], None]) -> None:
        """Run `change` on the family's nat table in a child and commit. Raises RedirectError."""
        iptc = self._load()  # in the parent, once for both families

        def work() -> None:
            table = (iptc.Table if family is Family.V4 else iptc.Table6)("nat", autocommit=False)
            change(table)
            table.commit()

        said = _run_forked(work)
        if said:
            raise refusal(f"legacy nat table of {family.label}", said)


def has_nat(family: Family) -> bool:
    """Whether this network namespace has a legacy nat table, looked up without making one."""
    try:
        with open(TABLES_FILE[family], encoding="ascii") as names:
            return "nat" in names.read().split()
    except OSError:
        return False  # no such module, or a family the kernel does not have


def load_iptc() -> Any:
    """The package iptc. Raises RedirectError when it, or a library that it needs, is missing.

    It is told where its libraries are, since its own search starts compilers and ldconfig, and
    `distutils` is hidden from it, since setuptools' copy costs 150 ms (measured).
    """
    folders = glob.glob(_LIBRARIES)
    if not os.environ.get("XTABLES_LIBDIR"):
        os.environ.pop("XTABLES_LIBDIR", None)  # set but empty breaks it
        if folders:
            os.environ["XTABLES_LIBDIR"] = folders[0]
    os.environ.setdefault("IPTABLES_LIBDIR", sysconfig.get_path("platlib"))
    hidden = sys.modules.get("distutils")
    sys.modules["distutils"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import iptc  # type: ignore[import-untyped]
    except ImportError as error:
        raise RedirectError(
            f"legacy rules need python-iptables ({error}): install lightmesh[init], or use mode nft"
        ) from error
    except Exception as error:  # it fails with whatever its loading of C libraries meets
        raise RedirectError(
            f"python-iptables does not load ({error}): "
            "install the package iptables, or use mode nft"
        ) from error
    finally:
        del sys.modules["distutils"]
        if hidden is not None:
            sys.modules["distutils"] = hidden
    return iptc


def _fill(iptc: Any, table: Any, plan: FamilyPlan, standing: Standing) -> None:
    """Edit the copy of the table until it holds the plan."""
    _drop_jumps(table, standing)
    for chain in plan.chains:
        if chain.name in standing.chains:
            table.flush_entries(chain.name)
        else:
            table.create_chain(chain.name)
        for rule in chain.rules:
            iptc.Chain(table, chain.name).append_rule(_encode(iptc, plan.family, rule))
    for chain in plan.chains:
        iptc.Chain(table, chain.hook).append_rule(_encode(iptc, plan.family, chain.jump))


def _clear(table: Any, standing: Standing) -> None:
    _drop_jumps(table, standing)
    for name in standing.chains:
        table.flush_entries(name)
    for name in standing.chains:
        table.delete_chain(name)


def _drop_jumps(table: Any, standing: Standing) -> None:
    targets = {jump.target for jump in standing.jumps}
    hooks = {jump.hook for jump in standing.jumps}
    for chain in table.chains:
        if chain.name not in hooks:
            continue
        for rule in chain.rules:
            if rule.target.name in targets:
                chain.delete_rule(rule)


def _encode(iptc: Any, family: Family, rule: Rule) -> Any:
    made = iptc.Rule() if family is Family.V4 else iptc.Rule6()
    if rule.tcp:
        made.protocol = "tcp"
    if rule.in_interface:
        made.in_interface = rule.in_interface
    if rule.out_interface:
        made.out_interface = rule.out_interface
    if rule.source:
        made.src = rule.source
    if rule.destination:
        made.dst = rule.destination
    if rule.uid is not None:
        made.create_match("owner").uid_owner = str(rule.uid)
    if rule.ports:
        made.create_match("multiport").dports = spell_ports(rule.ports)
    target = made.create_target(rule.target)
    if rule.to_port is not None:
        target.to_ports = str(rule.to_port)
    return made


def _run_forked(work: Callable[[], None]) -> str:
    """Run `work` in a child; give back what went wrong there, or the empty string."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            work()
            code = 0
        except BaseException as error:
            os.write(writing, (str(error) or type(error).__name__).encode()[:4000])
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or ("" if status == 0 else f"the child ended with {status}")

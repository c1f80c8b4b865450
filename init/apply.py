"""Put the plan into the kernel, prove it, and leave nothing half done.

v6 goes first, then v4, each in one transaction: killed between them, one whole family stands
and the next run completes it. A run that fails by itself takes both families away. What
already stands as planned is not touched.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from init.backend import Backend, MissingTool, NotAllowed, NotProven, RedirectError
from init.backend_legacy import LegacyBackend
from init.backend_nft import NftBackend, kernel_answers
from init.plan import Family, FamilyPlan, plan_redirect
from init.prove import Proof, prove_outbound
from init.settings import Settings

IF_INET6: Final = "/proc/net/if_inet6"
_SCOPE_GLOBAL: Final = "00"

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What a run did: the backend, and for each family whether it changed and how it was proven."""

    backend: str
    changed: list[str] = field(default_factory=list)
    proofs: dict[str, Proof] = field(default_factory=dict)


def set_up(settings: Settings) -> Outcome:
    """Program and prove the redirect. Raises RedirectError, and then no rule of ours stands."""
    plans = plan_redirect(settings)
    try:
        first, *others = choose_backends(settings.mode)
        try:
            return _run(first, plans, settings)
        except RedirectError as error:
            if not others or type(error) is not RedirectError:
                raise
            log.warning("backend failed, trying legacy backend=%s said=%s", first.name, error)
            return _run_second(others[0], plans, settings, said=f"{first.name}: {error}")
    except RedirectError:
        try:
            remove()
        except RedirectError as left:
            log.debug("rules could not be taken away said=%s", left)
        raise


def remove() -> list[str]:
    """Take away every rule of ours, of both backends and families; what was there, by name.

    A table that cannot be read holds nothing of ours, unless tools or rights are missing: that,
    and what could not be taken away, is raised as RedirectError at the end.
    """
    removed: list[str] = []
    problems: dict[str, None] = {}
    for backend in (NftBackend(), LegacyBackend()):
        for family in (Family.V6, Family.V4):
            if family is Family.V6 and not has_family_v6():
                continue
            try:
                standing = backend.read(family)
            except (MissingTool, NotAllowed) as error:
                problems[str(error)] = None
                continue
            except RedirectError as error:
                log.debug("no nat table backend=%s said=%s", backend.name, error)
                continue
            try:
                backend.remove(family, standing)
            except RedirectError as error:
                problems[str(error)] = None
                continue
            if not standing.is_empty():
                removed.append(f"{backend.name}/{family.label}")
    if problems:
        raise RedirectError("; ".join(problems))
    return removed


def choose_backends(mode: str) -> list[Backend]:
    """The backends to try, best first. Raises MissingTool and NotAllowed.

    Automatic: legacy where legacy nat rules stand already, since two interfaces that both
    rewrite have no defined order; else nft if the kernel answers; legacy after it.
    """
    if mode == "nft":
        return [NftBackend()]
    legacy = LegacyBackend()
    if mode == "legacy":
        return [legacy]
    for family in Family:
        standing = legacy.read(family)
        if standing.foreign or not standing.is_empty():
            log.info("legacy nat rules stand already, so legacy is used family=%s", family.label)
            return [legacy]
    if silent := kernel_answers():
        log.info("nft does not answer, so legacy is used said=%s", silent)
        return [legacy]
    return [NftBackend(), legacy]


def has_family_v6(path: str = IF_INET6) -> bool:
    """Whether the kernel has IPv6 at all in this network namespace."""
    try:
        with open(path, encoding="ascii"):
            return True
    except OSError:
        return False


def has_global_v6(path: str = IF_INET6) -> bool:
    """Whether an interface has an IPv6 address from which something could leave the pod.

    Columns of the file: address, interface number, prefix length, scope, flags, name.
    """
    try:
        with open(path, encoding="ascii") as lines:
            rows = [line.split() for line in lines]
    except OSError:
        return False
    return any(row[3] == _SCOPE_GLOBAL for row in rows if len(row) >= 6)


def _run_second(
    backend: Backend, plans: tuple[FamilyPlan, ...], settings: Settings, *, said: str
) -> Outcome:
    try:
        return _run(backend, plans, settings)
    except RedirectError as error:
        raise type(error)(f"{said}; {backend.name}: {error}") from error


def _run(backend: Backend, plans: tuple[FamilyPlan, ...], settings: Settings) -> Outcome:
    outcome = Outcome(backend.name)
    done: list[FamilyPlan] = []
    for plan in plans:
        if plan.family is Family.V6 and not has_family_v6():
            log.info("ipv6 is off in this pod, so it needs no redirect")
            continue
        try:
            if _apply_family(backend, plan):
                outcome.changed.append(plan.family.label)
        except RedirectError as error:
            if plan.family is Family.V6 and type(error) is RedirectError and not has_global_v6():
                log.info(
                    "ipv6 has no nat table and no address here, so it is left out said=%s", error
                )
                continue
            raise
        done.append(plan)
    _remove_other(backend)
    for plan in done:
        _compare(backend, plan)
        outcome.proofs[plan.family.label] = prove_outbound(plan.family, settings)
    return outcome


def _apply_family(backend: Backend, plan: FamilyPlan) -> bool:
    """Whether anything had to change."""
    standing = backend.read(plan.family)
    if standing.matches(plan):
        return False
    backend.apply(plan, standing)
    return True


def _compare(backend: Backend, plan: FamilyPlan) -> None:
    standing = backend.read(plan.family)
    if not standing.matches(plan):
        raise NotProven(
            f"{backend.name} rules of {plan.family.label} read back differ from the plan "
            f"({standing.difference(plan)}): set mesh/redirect-mode to the other of nft and legacy"
        )


def _remove_other(backend: Backend) -> None:
    """Take away what an earlier run put in through the other backend: one redirect is enough."""
    other: Backend = LegacyBackend() if backend.name == "nft" else NftBackend()
    for family in Family:
        try:
            standing = other.read(family)
            if not standing.is_empty():
                other.remove(family, standing)
                log.info("older rules removed backend=%s family=%s", other.name, family.label)
        except RedirectError as error:
            log.debug("the other backend does not answer backend=%s said=%s", other.name, error)

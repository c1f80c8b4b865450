"""What a check is, what it finds, and how a list of checks is judged. Pure.

A check is a function from facts to faults; no fault is success. It never reads anything
itself. A fact that could not be read raises ApiError when a check asks for it, and becomes
a fault of that check with a remedy of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mesh.core.errors import ApiError

if TYPE_CHECKING:
    from mesh.check.facts import Facts


class Severity(StrEnum):
    """FATAL ends the checks, since the later ones would only repeat it."""

    FATAL = "fatal"
    ERROR = "error"
    WARNING = "warning"


class Verdict(StrEnum):
    """The words of the JSON form."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: the object, what is wrong with it, and what to do.

    `minor` makes a warning of a fault that a check of higher severity found; `lasting` says
    that waiting will not heal it, whatever its check says.
    """

    object: str
    message: str
    remedy: str
    minor: bool = False
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.object}: {self.message}" if self.object else self.message


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result. `retryable`: time alone may heal it."""

    description: str
    find: Callable[[Facts], Iterable[Fault]]
    severity: Severity = Severity.ERROR
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """Checks under one heading."""

    name: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one check."""

    category: str
    check: Check
    faults: tuple[Fault, ...] = ()

    @property
    def verdict(self) -> Verdict:
        if not self.faults:
            return Verdict.SUCCESS
        minor = all(fault.minor for fault in self.faults)
        if minor or self.check.severity is Severity.WARNING:
            return Verdict.WARNING
        return Verdict.ERROR

    @property
    def may_heal(self) -> bool:
        """Whether another look is worth the time: nobody waits for a warning."""
        waits = self.check.retryable and self.verdict is Verdict.ERROR
        return waits and not all(fault.lasting for fault in self.faults)

    @property
    def ends_all(self) -> bool:
        return self.check.severity is Severity.FATAL and self.verdict is Verdict.ERROR


def judge(category: Category, check: Check, facts: Facts) -> Result:
    """Run one check. A read that failed and a bug in the check are faults as well."""
    try:
        faults = tuple(check.find(facts))
    except ApiError as error:
        faults = (_unread(check, error),)
    except Exception as error:
        what = f"the check itself failed: {type(error).__name__}: {error}"
        faults = (Fault("", what, "please report this, with the object it is about"),)
    return Result(category.name, check, faults)


def is_success(results: Sequence[Result]) -> bool:
    """Whether nothing worse than a warning was found."""
    return all(result.verdict is not Verdict.ERROR for result in results)


def _unread(check: Check, error: ApiError) -> Fault:
    """What may not be read is a warning, except where all that follows hangs on it."""
    if error.code in (401, 403):
        remedy = "ask for the right to read this, or use a kubeconfig that has it"
        minor = check.severity is not Severity.FATAL
        return Fault("", error.message, remedy, minor=minor, lasting=True)
    if error.code == 404:
        return Fault("", error.message, "check the name, --mesh-namespace and --context")
    return Fault("", error.message, "check that the API server is reachable and healthy")

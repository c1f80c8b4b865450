"""The families of errors that cross a boundary of the project.

Each family says who must act: the operator (ConfigError), the peer of one connection
(PeerError), the Kubernetes API (ApiError) or the trust chain (IdentityError). What is
expected to happen in normal operation is not here: it is a value (an Outcome).
"""

from __future__ import annotations

from collections.abc import Sequence


class MeshError(Exception):
    """The base of all errors raised on purpose; its text ends with what to do next."""


class ConfigError(MeshError):
    """A setting, flag or file is wrong: do not start. Carries every fault found, not the first."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class PeerError(MeshError):
    """A peer broke the protocol: answer `status`, count `reason`, close the connection.

    `reason` is a fixed word, safe as a metric label.
    """

    def __init__(self, reason: str, message: str, *, status: int = 400) -> None:
        self.reason = reason
        self.status = status
        super().__init__(message)


class ApiError(MeshError):
    """The Kubernetes API refused a request: `code` and `reason` as in its Status object."""

    def __init__(
        self, code: int, reason: str, message: str, retry_after: float | None = None
    ) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        super().__init__(message)


class IdentityError(MeshError):
    """No certificate can be given or trusted. `reason` is a fixed word for metrics and clients."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)

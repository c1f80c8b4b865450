"""Who sends a request: client certificate, bearer token, impersonation.

Decides from what TLS and the headers say; opens nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from mesh.local.api import rbac, status
from mesh.local.api.rbac import Action
from mesh.local.api.store import Store
from mesh.local.api.tokens import ISSUER, Signer, TokenError, identify
from mesh.local.api.users import ADMIN, ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNTS, User

AUDIENCES: Final = (ISSUER, "https://kubernetes.default.svc", "api")
_EXTRA: Final = "impersonate-extra-"


class Authenticator:
    """`admin_token` is a secret of the daemon that stands for the administrator; may be empty."""

    def __init__(self, store: Store, signer: Signer, *, admin_token: str = "") -> None:
        self._store = store
        self._signer = signer
        self._admin = admin_token

    def authenticate(self, headers: Mapping[str, str], peer: Mapping[str, Any] | None) -> User:
        """The caller. `peer` is its verified certificate as `getpeercert` gives it.

        Raises ApiError 401 for a token that is no good; without any proof it is anonymous.
        """
        header = headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return self.user_of(token.strip(), AUDIENCES)[0]
        if header:
            raise status.unauthorized()
        if peer:
            return _certified(peer)
        return ANONYMOUS

    def user_of(self, token: str, audiences: tuple[str, ...]) -> tuple[User, list[str]]:
        """The user of a token and the audiences it is good for. Raises ApiError 401."""
        if self._admin and hmac.compare_digest(token.encode(), self._admin.encode()):
            return ADMIN, list(audiences)
        try:
            return identify(self._store, self._signer.verify(token), audiences)
        except (TokenError, KeyError, TypeError) as error:
            raise status.unauthorized() from error

    def impersonate(self, user: User, headers: Mapping[str, str]) -> User:
        """The user that the Impersonate headers ask for, when they may. Raises ApiError 403."""
        name = headers.get("impersonate-user", "")
        groups = _all(headers, "impersonate-group")
        extra = {
            unquote(key[len(_EXTRA) :]): (value,)
            for key, value in ((k.lower(), v) for k, v in headers.items())
            if key.startswith(_EXTRA)
        }
        uid = headers.get("impersonate-uid", "")
        if not name:
            if groups or extra or uid:
                raise status.bad_request("requested impersonation without impersonating a user")
            return user
        self._must(user, _account(name))
        for group in groups:
            self._must(user, Action("impersonate", "", "groups", name=group))
        if uid:
            self._must(user, Action("impersonate", "authentication.k8s.io", "uids", name=uid))
        for key, values in extra.items():
            for value in values:
                self._must(
                    user,
                    Action("impersonate", "authentication.k8s.io", "userextras", key, name=value),
                )
        return User(name, _with_defaults(name, groups), uid, extra)

    def _must(self, user: User, action: Action) -> None:
        if not rbac.decide(self._store, user, action).allowed:
            raise status.StatusError(
                403,
                "Forbidden",
                f'{action.resource} "{action.name}" is forbidden: User "{user.name}" '
                f"{action.describe()}",
            )


def _account(name: str) -> Action:
    parts = name.split(":")
    if name.startswith("system:serviceaccount:") and len(parts) == 4:
        return Action("impersonate", "", "serviceaccounts", namespace=parts[2], name=parts[3])
    return Action("impersonate", "", "users", name=name)


def _with_defaults(name: str, groups: list[str]) -> tuple[str, ...]:
    parts = name.split(":")
    if name.startswith("system:serviceaccount:") and len(parts) == 4 and not groups:
        groups = [SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{parts[2]}"]
    if name == ANONYMOUS.name:
        return tuple(groups or ANONYMOUS.groups)
    return tuple(dict.fromkeys([*groups, AUTHENTICATED]))


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return list(getall(name, []))
    return [headers[name]] if name in headers else []


def _certified(peer: Mapping[str, Any]) -> User:
    name, groups = "", []
    for relative in peer.get("subject") or ():
        for key, value in relative:
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    if not name:
        raise status.unauthorized()
    return User(name, (*groups, AUTHENTICATED))

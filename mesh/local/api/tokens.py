"""Service-account tokens: JSON Web Tokens signed with ES256, as the API server issues them.

Signs and verifies; whether the account and the pod still exist is asked of the store by
`identify`. RFC 7519, RFC 7518 §3.4; claims as KEP-1205 and KEP-4193 describe them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from mesh.local.api.resources import Object
from mesh.local.api.store import Store
from mesh.local.api.users import User, service_account

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
SHORTEST: Final = 600  # seconds
LONGEST: Final = 1 << 32
DEFAULT_LIFE: Final = 3600
MAX_TOKEN: Final = 16_384  # bytes
CLAIMS: Final = "kubernetes.io"
_SIZE: Final = 32  # of r and s on P-256

Find = Callable[[str, str | None, str], Object | None]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token is bound to besides its service account."""

    kind: str = ""  # Pod, Secret or Node
    name: str = ""
    uid: str = ""
    node: str = ""
    node_uid: str = ""


class TokenError(Exception):
    """A token that proves nothing; the text says why, without the token."""


class Signer:
    """One key that signs tokens, and verifies them."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        issuer: str = ISSUER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self.issuer = issuer
        self._clock = clock
        der = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = _b64(hashlib.sha256(der).digest())

    def issue(
        self, account: Object, audiences: Sequence[str], seconds: int, binding: Binding
    ) -> tuple[str, float]:
        """A token for a ServiceAccount object, and when it ends (seconds since the epoch)."""
        now = int(self._clock())
        meta = account["metadata"]
        private: dict[str, Any] = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
        }
        if binding.kind:
            private[binding.kind.lower()] = {"name": binding.name, "uid": binding.uid}
        if binding.node:
            private["node"] = {"name": binding.node, "uid": binding.node_uid}
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            CLAIMS: private,
            "nbf": now,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        }
        return self._sign(claims), float(now + seconds)

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token that we signed and whose time has not ended. TokenError."""
        if len(token) > MAX_TOKEN:
            raise TokenError("the token is too long")
        head, dot, signature = token.rpartition(".")
        try:
            header = json.loads(_unb64(head.partition(".")[0]))
            raw = _unb64(signature)
            claims = json.loads(_unb64(head.partition(".")[2]))
        except (ValueError, UnicodeDecodeError) as error:
            raise TokenError("not a JSON web token") from error
        if not dot or not isinstance(header, dict) or header.get("alg") != "ES256":
            raise TokenError("not a token of this cluster")
        if len(raw) != 2 * _SIZE or not isinstance(claims, dict):
            raise TokenError("not a token of this cluster")
        der = encode_dss_signature(
            int.from_bytes(raw[:_SIZE], "big"), int.from_bytes(raw[_SIZE:], "big")
        )
        try:
            self._public.verify(der, head.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise TokenError("the signature is not this cluster's") from error
        now = self._clock()
        if now >= claims["exp"]:
            raise TokenError("service account token has expired")
        if now < claims["nbf"] - 60:
            raise TokenError("the token is not valid yet")
        return claims

    def keys(self) -> Object:
        """The key set that `/openid/v1/jwks` shows (RFC 7517)."""
        numbers = self._public.public_numbers()
        return {
            "keys": [
                {
                    "use": "sig",
                    "kty": "EC",
                    "kid": self.key_id,
                    "crv": "P-256",
                    "alg": "ES256",
                    "x": _b64(numbers.x.to_bytes(_SIZE, "big")),
                    "y": _b64(numbers.y.to_bytes(_SIZE, "big")),
                }
            ]
        }

    def _sign(self, claims: dict[str, Any]) -> str:
        header = {"alg": "ES256", "kid": self.key_id}
        text = f"{_b64(_compact(header))}.{_b64(_compact(claims))}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_b64(r.to_bytes(_SIZE, 'big') + s.to_bytes(_SIZE, 'big'))}"


def identify(
    store: Store, claims: dict[str, Any], audiences: Sequence[str]
) -> tuple[User, list[str]]:
    """The user of verified claims and the audiences it is good for. Raises TokenError.

    The account, and the pod, Secret or Node it is bound to, must exist with the same uid.
    """
    good = [audience for audience in audiences if audience in claims.get("aud", ())]
    if not good:
        raise TokenError(f"token audiences {claims.get('aud')} is invalid for the target audiences")
    private = claims[CLAIMS]
    namespace, account = private["namespace"], private["serviceaccount"]
    _must_exist(store, "serviceaccounts", namespace, account)
    extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
    for kind, resource, scope in (
        ("pod", "pods", namespace),
        ("secret", "secrets", namespace),
        ("node", "nodes", None),
    ):
        bound = private.get(kind)
        if bound is None:
            continue
        if kind != "node" or "pod" not in private:
            _must_exist(store, resource, scope, bound)
        if kind != "secret":
            extra[f"authentication.kubernetes.io/{kind}-name"] = (bound["name"],)
            extra[f"authentication.kubernetes.io/{kind}-uid"] = (bound["uid"],)
    return service_account(namespace, account["name"], account["uid"], extra), good


def _must_exist(store: Store, resource: str, namespace: str | None, bound: Object) -> None:
    found = store.find(resource, namespace, bound["name"])
    if found is None or found["metadata"]["uid"] != bound["uid"]:
        raise TokenError(f"the token is bound to {resource} {bound['name']}, which is gone")


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

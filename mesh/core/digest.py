"""SHA-256 without the rest of `hashlib`, which loads every digest of OpenSSL: 0.7 MB a proxy.

CPython's own stands behind a private name, from which `random` takes its SHA-512 too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # since Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:
            from hashlib import sha256

__all__ = ["sha256"]

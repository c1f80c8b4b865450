"""What the compiler of our wheels (mypyc) is told, and the interpreter need not know.

`trait` marks a class that others inherit from besides their one base, so that a call through it
needs no look-up by name. `mypyc_attr(allow_interpreted_subclasses=True)` keeps a class open to
others that are not compiled, such as the doubles of tests; a trait itself never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr, trait
else:

    def trait(kind: type) -> type:
        return kind

    def mypyc_attr(**_: Any) -> Any:
        return trait


__all__ = ["mypyc_attr", "trait"]

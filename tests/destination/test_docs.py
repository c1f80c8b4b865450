"""docs/routing.md says what the code's own tables say."""

from __future__ import annotations

from pathlib import Path

from mesh.core import labels

PAGE = Path(__file__).parents[2] / "docs" / "routing.md"


def test_the_page_lists_every_annotation_as_the_table_has_it() -> None:
    text = PAGE.read_text()

    for item in labels.ROUTE_ANNOTATIONS:
        aliases = ", ".join(f"`{alias}`" for alias in item.aliases)
        assert f"| `{item.name}` | {aliases} | {item.default} | {item.meaning} |" in text

"""The mapping under snapshots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from destination.layered import Layered

changes = st.lists(
    st.dictionaries(st.integers(0, 400), st.none() | st.text(max_size=1), max_size=150), max_size=6
)


@given(st.dictionaries(st.integers(0, 400), st.text(max_size=1)), changes)
def test_it_is_a_dictionary_after_any_changes(
    start: dict[int, str], steps: list[dict[int, str | None]]
) -> None:
    plain, layered = dict(start), Layered(start)
    for step in steps:
        before, was = dict(layered), layered
        layered = layered.changed(step)
        for key, value in step.items():
            if value is None:
                plain.pop(key, None)
            else:
                plain[key] = value

        assert dict(was) == before
        assert dict(layered) == plain
        assert len(layered) == len(plain)
        assert all((key in layered) == (key in plain) for key in range(401))

"""The bundle as text: hash, stamp, and which of two counts at start."""

from __future__ import annotations

import pytest

from mesh.runtime.bundle import (
    MAX_BUNDLE,
    bundle_version,
    choose_bundle,
    hash_bundle,
    is_older,
    join_bundle,
    split_bundle,
    stamp_bundle,
)

A = join_bundle([b"certificate a" * 9])
B = join_bundle([b"certificate b" * 9])
NEW, OLD = stamp_bundle(A + B, 2), stamp_bundle(A, 1)


def test_the_hash_is_of_the_set_of_certificates() -> None:
    assert hash_bundle(A + B) == hash_bundle("# comment\n" + B + "\n\n" + A + B)
    assert hash_bundle(A) != hash_bundle(B)
    assert hash_bundle("") == hash_bundle("junk") == ""


def test_a_bundle_survives_windows_line_ends_and_lost_indentation() -> None:
    odd = A.replace("\n", "\r\n").replace("-----BEGIN", "   -----BEGIN")

    assert split_bundle(odd) == split_bundle(A)


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----\n!!\n", A[:-30], "x" * MAX_BUNDLE]
)
def test_text_without_certificates_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        split_bundle(text)


def test_a_bundle_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        split_bundle(A + " " * MAX_BUNDLE)


def test_a_stamp_tells_the_version_as_long_as_it_fits() -> None:
    assert bundle_version(NEW) == 2
    assert bundle_version(stamp_bundle(NEW, 3)) == 3
    assert bundle_version(A) is None
    assert bundle_version(NEW + join_bundle([b"another"])) is None


def test_older_means_that_both_have_versions() -> None:
    assert is_older(OLD, than=NEW)
    assert not is_older(NEW, than=OLD)
    assert not is_older(OLD, than=OLD)
    assert not is_older(A, than=NEW)
    assert not is_older(OLD, than=B)


@pytest.mark.parametrize(
    ("given", "stored", "superseded", "expected"),
    [
        (OLD, NEW, "", NEW),
        (NEW, OLD, hash_bundle(NEW), NEW),  # versions beat the record
        (OLD, "", "", OLD),
        ("", OLD, "", OLD),
        ("", "", "", ""),
        (A, B, hash_bundle(A), B),  # pushed after A was given
        (A, B, hash_bundle(B), A),  # A was given later
        (OLD, B, hash_bundle(OLD), B),
        (NEW, B, hash_bundle(OLD), NEW),
        (A, "junk", hash_bundle(A), A),
    ],
)
def test_the_newer_bundle_counts_at_start(
    given: str, stored: str, superseded: str, expected: str
) -> None:
    assert choose_bundle(given, stored, superseded) == expected

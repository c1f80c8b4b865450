"""Tests of the embedded controllers."""

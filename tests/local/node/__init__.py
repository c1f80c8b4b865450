"""Tests of the embedded node."""

"""Lightmesh: a light service mesh for Kubernetes. Holds the version and imports nothing."""

__version__ = "0.2.0"

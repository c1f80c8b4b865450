"""Diagnosis of a cluster before, and of a mesh after, its installation."""

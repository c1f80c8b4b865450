"""The words and rules of the mesh: pure, standard library only (and msgspec in `wire`)."""

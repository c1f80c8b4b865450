"""The controllers of `mesh local`: small reconcilers over the API server's store."""

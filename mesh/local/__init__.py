"""A cluster without a cluster: API server, node, controllers and demo."""

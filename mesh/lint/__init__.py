"""A folder of manifests, judged without a cluster: what will have no effect, and why."""

"""One whole Kubernetes node in namespaces of its own, from binaries and packages in the cache."""

"""The embedded node: namespaces, network, name server and kubelet of `mesh local`."""

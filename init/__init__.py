"""The init container: redirects the pod's TCP connections to the proxy, proves it, exits."""

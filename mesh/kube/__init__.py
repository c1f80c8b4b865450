"""The Kubernetes API as the control plane and the CLI use it: dict objects over lightkube."""

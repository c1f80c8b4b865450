"""How a pod gets its proxy: pure patching, the webhook around it, and manifests offline."""

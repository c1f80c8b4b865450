"""The process that signs leaves for workloads and owns issuer and trust bundle."""

"""Real roles, real redirects, real kubectl, on the embedded cluster."""

"""The rules of lint, pure: manifests in, findings out. The webhook can use them as well."""

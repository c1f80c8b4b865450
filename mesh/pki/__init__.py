"""X.509 as functions: trust anchor, issuer, CSR, leaf, bundle. The one place for cryptography."""

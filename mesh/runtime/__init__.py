"""What each long-running process needs: settings, logs, lifecycle, admin, TLS, credentials."""

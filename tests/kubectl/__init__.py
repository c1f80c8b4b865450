"""The kubectl commands that the embedded and a real API server must answer alike."""

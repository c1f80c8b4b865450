"""Parsers of outside bytes under inputs that nobody thought of."""

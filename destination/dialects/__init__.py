"""The dialects: each reads one family of kinds into fragments, never raising."""

"""Error rates and their reports."""

"""Sinks for what a run reports (kind ``tracker``)."""

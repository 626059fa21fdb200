"""Where a run reports to: ``metrics.jsonl``, samples, and the trackers of an experiment."""

"""From manifests to batches: sources, indexes, batch plans and resumable streams."""

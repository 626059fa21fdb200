"""What every stage shares: registry, configuration, training loop, checkpoints, tracking."""

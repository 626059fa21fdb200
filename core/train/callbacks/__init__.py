"""What happens around steps: validation looks, checkpoints, progress, alarms."""

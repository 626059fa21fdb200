"""Features as discrete targets."""

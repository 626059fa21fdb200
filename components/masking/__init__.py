"""Which frames a model has to fill in."""

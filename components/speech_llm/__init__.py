"""Speech language models: a frozen base, and adapters on the projector between ear and text."""

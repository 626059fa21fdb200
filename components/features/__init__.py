"""Features: waveforms to frames."""

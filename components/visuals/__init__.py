"""Pictures of features, posteriors and alignments, as arrays."""

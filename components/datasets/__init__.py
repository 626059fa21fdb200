"""Data modules, and the sources that URIs name."""

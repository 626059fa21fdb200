"""The static index of all components: read from source, so that listing imports nothing heavy."""

from __future__ import annotations

from core.catalog.build import build_catalog, index
from core.catalog.records import FIRST_PARTY, Broken, Catalog, Entry, Parameter

__all__ = ["FIRST_PARTY", "Broken", "Catalog", "Entry", "Parameter", "build_catalog", "index"]

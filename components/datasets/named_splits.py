"""The names of the splits that a data module is evaluated on."""

from __future__ import annotations


class NamedSplits:
    """Gives the names of a data module's splits, in the order in which they were configured.

    Attributes:
        validation: sources of validation by split name.
        test: sources of test by split name.
    """

    validation: dict[str, str]
    test: dict[str, str]

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Names of the validation sources."""
        return tuple(self.validation)

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Names of the test sources."""
        return tuple(self.test)

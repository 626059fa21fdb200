from __future__ import annotations

import itertools

from components.preparation.durations import DurationHistogram


def test_every_utterance_is_in_one_bin() -> None:
    histogram = DurationHistogram(limits=(3.0, 12.0))
    for seconds in (2.0, 2.5, 3.0, 9.9, 12.0, 12.1, 3600.0):
        histogram.add(seconds, kept=3.0 <= seconds <= 12.0)
    bins = histogram.bins()
    assert [
        (b["begin"], b["end"], b["utterances"], b["kept"]) for b in bins if b["utterances"]
    ] == [
        (2.0, 3.0, 2, 0),
        (3.0, 5.0, 1, 1),
        (5.0, 10.0, 1, 1),
        (12.0, 15.0, 2, 1),
        (60.0, None, 1, 0),
    ]
    assert bins[-1]["hours"] == 1.0
    assert all(left["end"] == right["begin"] for left, right in itertools.pairwise(bins))


def test_bars_show_what_is_kept() -> None:
    histogram = DurationHistogram(limits=())
    for seconds in (2.0, 3.0, 3.5, 4.0, 4.5):
        histogram.add(seconds, kept=seconds in (3.0, 3.5))
    assert histogram.lines() == [
        "      seconds  utterances        kept     hours",
        "     2 -    3           1           0      0.00  " + "." * 10,
        "     3 -    5           4           2      0.00  " + "#" * 20 + "." * 20,
    ]
    assert len(DurationHistogram(limits=()).lines()) == 1

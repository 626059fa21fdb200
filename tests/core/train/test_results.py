from __future__ import annotations

import json
import math
from pathlib import Path

from torch import nn

from core.train.parameters import parameter_counts, parameter_table
from core.train.results import read_results, result_lines, write_results


def test_table_has_a_row_for_each_split_and_percent_for_rates() -> None:
    lines = result_lines({"val/wer": 0.5, "val/loss": 0.25, "test/wer": 0.0123})
    assert lines[0].split() == ["loss", "wer"]
    assert lines[1].split() == ["val", "0.2500", "50.00%"]
    assert lines[2].split() == ["test", "-", "1.23%"]


def test_rates_are_in_percent_whatever_they_are_of() -> None:
    names = ("cer", "cer_unadapted", "cer_without_spaces", "wer_unadapted")
    rates = {f"val/{name}": 2.2857 for name in names}
    rows = result_lines(rates | {"val/loss_unadapted": 1.5})
    assert rows[0].split() == [*names[:3], "loss_unadapted", names[3]]
    assert rows[1].split() == ["val", *["228.57%"] * 3, "1.5000", "228.57%"]


def test_long_names_do_not_run_into_each_other() -> None:
    lines = result_lines({"val/counted_share": 0.25, "val/target_perplexity": 31.0})
    assert lines[0].split() == ["counted_share", "target_perplexity"]
    assert lines[0].index("target_perplexity") + 17 == len(lines[1])


def test_results_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, {"step": 3, "test/wer": 0.1})
    assert json.loads(path.read_text()) == {"step": 3, "test/wer": 0.1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_nothing_counted_for_is_null_in_the_file_and_a_dash_in_the_table(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.json"
    write_results(path, {"step": 3, "unseen/speaker_acc": math.nan, "unseen/loss": 2.0})
    assert json.loads(path.read_text())["unseen/speaker_acc"] is None
    found = read_results(path)
    assert math.isnan(found["unseen/speaker_acc"])
    assert result_lines(found)[1].split() == ["unseen", "2.0000", "-"]


def test_parameter_table_counts_tied_parameters_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    assert parameter_counts(model) == (20, 24)
    table = "\n".join(parameter_table(model))
    assert "(all)" in table
    assert "24" in table

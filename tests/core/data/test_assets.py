from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist
from torch import multiprocessing

from core.contracts import RunContext
from core.data.assets import main_rank_first, prepare_tokenizer
from core.errors import DataError
from tests.core.data.corpus_files import Characters


def texts() -> Iterator[str]:
    yield from ["ab", "소리"]


def test_a_new_run_fits_and_keeps_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = Characters()
    prepare_tokenizer(tokenizer, context=RunContext(assets=tmp_path), texts=texts, name="nemo:m")
    assert tokenizer.characters == ["a", "b", "리", "소"], "texts are composed before fitting"
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


def test_a_resumed_run_loads_what_it_kept(tmp_path: Path) -> None:
    prepare_tokenizer(Characters(), context=RunContext(assets=tmp_path), texts=texts, name="nemo:m")
    for training, again in ((True, lambda: iter(["other"])), (False, None)):
        tokenizer = Characters()
        context = RunContext(assets=tmp_path, training=training)
        prepare_tokenizer(tokenizer, context=context, texts=again, name="nemo:m")
        assert tokenizer.characters == ["a", "b", "리", "소"]


def test_a_vocabulary_that_is_known_is_kept_as_it_is(tmp_path: Path) -> None:
    tokenizer = Characters()
    tokenizer.fit(["xyz"])
    prepare_tokenizer(tokenizer, context=RunContext(assets=tmp_path), texts=texts, name="nemo:m")
    assert tokenizer.characters == ["x", "y", "z"]
    assert (tmp_path / "tokenizer" / "characters.json").is_file()


def test_a_finished_model_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    context = RunContext(assets=tmp_path, training=False)
    with pytest.raises(DataError, match="no tokenizer in"):
        prepare_tokenizer(Characters(), context=context, texts=None, name="nemo:m")


def test_a_corpus_without_transcripts_is_refused(tmp_path: Path) -> None:
    context = RunContext(assets=tmp_path)
    with pytest.raises(DataError, match="nemo:m: no utterance has a transcript"):
        prepare_tokenizer(Characters(), context=context, texts=lambda: iter([]), name="nemo:m")
    assert not list(tmp_path.iterdir())


def _rank(rank: int, folder: Path, fail: bool) -> None:
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    context = RunContext(assets=folder / "assets", rank=rank, world_size=2)
    note = folder / f"rank{rank}"
    try:
        with main_rank_first(context):
            note.write_text(str((folder / "rank0").exists()))
            if fail:
                raise ValueError("disk full")
        tokenizer = Characters()
        prepare_tokenizer(tokenizer, context=context, texts=texts, name="nemo:m")
        note.write_text("".join(tokenizer.characters))
    except (DataError, ValueError) as error:
        note.write_text(f"{type(error).__name__}: {error}")
    dist.destroy_process_group()


@pytest.mark.parametrize("fail", [False, True])
def test_rank_zero_goes_first_and_its_failure_reaches_the_others(
    tmp_path: Path, fail: bool
) -> None:
    multiprocessing.start_processes(_rank, args=(tmp_path, fail), nprocs=2, start_method="fork")
    notes = [(tmp_path / f"rank{rank}").read_text() for rank in range(2)]
    if fail:
        assert notes == ["ValueError: disk full", "DataError: rank 0 failed: disk full"]
    else:
        assert notes == ["ab리소", "ab리소"]

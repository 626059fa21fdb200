"""``order``: rows with mel first, in an order that only ever grows at its end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from components.preparation.mel_folder import AvailableMels, MelSide, sides
from components.preparation.row_order import Rows, copy_rows, fingerprint_rows, scan_rows
from core.checkpoint.atomic import naming, sync_directory, write_text
from core.data.npy import SCRATCH, Array
from core.errors import DataError
from core.registry import register

SIDECAR = ".sori-order.json"

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What is known of the rows in front of an ordered manifest.

    Args:
        side: whose mel they have.
        mel: folder of the mels, from the manifest's.
        rows: in front.
        bytes: that they take up.
        sha256: of these bytes.
        total_rows: of the manifest.
    """

    side: MelSide
    mel: str
    rows: int
    bytes: int
    sha256: str
    total_rows: int


@register("prepare", "order")
@dataclass(frozen=True, kw_only=True)
class Order:
    """Put the rows of a pair manifest that have mel first.

    The first time this is a stable partition. Later, rows that were first keep their places, rows
    whose mel is new are appended behind them, and the rest follows; so a training that counts rows
    goes on where it was. Each row in front gets ``target_mel_path`` (or ``prompt_mel_path``, by
    ``side``). Nothing else changes: the rows before and after are compared, and the file is
    replaced in one piece. A file beside it, ``.sori-order.json``, describes the rows in front.

    Args:
        manifest: pair manifest.
        output: ordered manifest, which must not exist yet; None to order ``manifest`` in place.
        mel: folder of the mels; None for ``mel`` beside the manifest.
        side: whose mel a row needs: target, prompt or both.
        num_bins: of a mel frame; files of another size do not count.
        rebase: move rows in front whose mel has vanished, or that were edited, behind those that
            have some. A training run refuses to go on from rows that have moved.
    """

    manifest: Path
    output: Path | None = None
    mel: Path | None = None
    side: MelSide = "target"
    num_bins: int = 80
    rebase: bool = False

    def __call__(self, say: Callable[[str], None]) -> None:
        """Order the manifest. Raises DataError if rows in front are not what they were."""
        output = self.output or self.manifest
        if not self.manifest.is_file():
            raise DataError(f"pair manifest {self.manifest}: no such file")
        if self.output is not None and self.output.exists():
            raise DataError(
                f"{self.output} exists; bring new mel to its front with "
                f"'python -m core.prepare order {self.output}'"
            )
        folder = self.mel or self.manifest.parent / "mel"
        place = os.path.relpath(folder, output.parent)
        former = self._former(place)
        available = AvailableMels(folder, num_bins=self.num_bins)
        rows = scan_rows(
            self.manifest,
            available,
            sides(self.side),
            front=former.rows if former is not None else None,
        )
        front = self._front(former, rows)
        parts = [front & rows.complete, rows.complete & ~front, front & ~rows.complete]
        parts.append(~(parts[0] | parts[1] | parts[2]))
        if parts[2].any() and not self.rebase:
            self._refuse_lost(parts[2])
        with naming(output):
            found = self._write(output, rows, parts, place)
        write_text(
            output.with_name(output.name + SIDECAR), json.dumps(asdict(found), indent=2) + "\n"
        )
        kept, new, lost, rest = (int(part.sum()) for part in parts)
        say(f"{output}: {len(rows):,} rows, compared before and after")
        say(f"  in front, with mel: {kept + new:,} ({kept:,} as before, {new:,} new)")
        if lost:
            say(f"  moved behind them, for their mel is gone: {lost:,}")
        say(f"  behind, without mel: {lost + rest:,}")
        damaged = f", {available.damaged:,} of a wrong size left out" if available.damaged else ""
        say(f"{folder}: {len(available):,} mels{damaged}")

    def _former(self, place: str) -> Front | None:
        """Read what the last run wrote of the rows in front; None if there was none."""
        path = self.manifest.with_name(self.manifest.name + SIDECAR)
        if not path.exists():
            return None
        try:
            found = Front(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path} is damaged ({error}); remove it to take the rows in front as they are"
            ) from error
        if self.output is None and (found.side, found.mel) != (self.side, place):
            raise DataError(
                f"{self.manifest} is ordered by the {found.side} mels in '{found.mel}', not by the "
                f"{self.side} mels in '{place}'; give an --output for another order"
            )
        return found

    def _front(self, former: Front | None, rows: Rows) -> Array:
        """Return which rows are in front now. Raises DataError if they were changed."""
        count = rows.leading if former is None else former.rows
        if former is not None and (rows.front_bytes, rows.front_sha256) != (
            former.bytes,
            former.sha256,
        ):
            if not self.rebase:
                raise DataError(
                    f"{self.manifest}: the first {former.rows:,} rows are not those that the last "
                    "order put there. A training that has consumed them cannot go on exactly. "
                    "Restore the manifest, or accept them as they are with --rebase"
                )
            count = rows.leading
        return np.arange(len(rows)) < count

    def _refuse_lost(self, lost: Array) -> None:
        numbers = np.flatnonzero(lost)
        shown = ", ".join(f"{number + 1:,}" for number in numbers[:_EXAMPLES].tolist())
        raise DataError(
            f"{self.manifest}: {numbers.size:,} rows in front have lost their mel: rows {shown}"
            f"{', ...' if numbers.size > _EXAMPLES else ''}. Moving them would shift the rows that "
            "a training has consumed. Make the mel again with core.prepare mel, or move them with "
            "--rebase"
        )

    def _write(self, output: Path, rows: Rows, parts: list[Array], place: str) -> Front:
        """Write all parts one after the other, compare, and replace ``output``."""
        partial = output.with_name(f"{SCRATCH}{output.name}-{os.getpid()}")
        digest = hashlib.sha256()
        try:
            with partial.open("wb", buffering=1 << 20) as file:
                copy_rows(rows, parts[0], file, digest=digest)
                copy_rows(rows, parts[1], file, digest=digest, complete=place)
                size = file.tell()
                copy_rows(rows, parts[2], file, strip=True)
                copy_rows(rows, parts[3], file, strip=True)
                file.flush()
                os.fsync(file.fileno())
            if fingerprint_rows(partial, rows.sides) != rows.fingerprint:
                raise DataError(
                    f"{self.manifest}: the rows that were written are not those that were read; "
                    "the manifest changed meanwhile, or the disk is faulty. Nothing was replaced"
                )
            os.replace(partial, output)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(output.parent)
        return Front(
            side=self.side,
            mel=place,
            rows=int(parts[0].sum() + parts[1].sum()),
            bytes=size,
            sha256=digest.hexdigest(),
            total_rows=len(rows),
        )

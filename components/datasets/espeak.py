"""Speech from text through eSpeak NG, repeatable to the byte.

The library and its voices come from the wheel ``espeakng-loader``, an optional dependency (extra
``sori[demo]``). eSpeak NG is licensed under GPL-3.0-or-later. Nothing of it is part of this
project: the library is opened at run time, only in the separate worker process of
:mod:`components.datasets.espeak_worker`, and what leaves that process is audio.

Two properties of the library shape this module. Its state carries over from one utterance to the
next, so the same text spoken twice in a process gives two waveforms; each utterance is therefore
spoken in a forked child that sets the library's random seed. And it accepts an unknown variant
without a word, so names are checked against the data files of the wheel.
"""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from core.errors import DataError, suggest

_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_SSML = 0x10
_POSITION_CHARACTER = 1
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_PARAMETER_PITCH_RANGE = 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What to say and how.

    Args:
        text: the sentence.
        voice: a language of eSpeak NG and a variant, such as ``en-us+f2``.
        rate: words a minute, 80 to 450.
        pitch: 0 to 100; 50 is the pitch of the voice itself.
        pitch_range: 0 to 100; 0 is monotone, 50 the range of the voice itself.
        emphasis: stress the whole sentence strongly: louder and slower.
        seed: of the library's random numbers (breath, flutter, roughness).
    """

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    emphasis: bool = False
    seed: int = 1


def data_folder() -> Path:
    """Return the folder with the voices of the installed wheel; the library itself is not opened.

    Raises:
        DataError: if the wheel is not installed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise DataError(
            "the demo corpus is spoken by eSpeak NG, and the package 'espeakng-loader' is not "
            "installed: pip install 'sori[demo]'"
        ) from error
    return Path(espeakng_loader.get_data_path())


def variants() -> tuple[str, ...]:
    """Return the names of the voice variants in the installed wheel, sorted."""
    return tuple(sorted(path.name for path in (data_folder() / "voices" / "!v").iterdir()))


def check_voice(voice: str) -> None:
    """Refuse a voice whose variant the library would silently ignore.

    Raises:
        DataError: naming the nearest variant.
    """
    variant = voice.partition("+")[2]
    known = variants()
    if variant and variant not in known:
        raise DataError(
            f"voice '{voice}': eSpeak NG has no variant '{variant}'; "
            f"{suggest(variant, known, noun='variants')}"
        )


class Espeak:
    """The opened library. Make one only in a process that runs no other threads: it forks.

    Attributes:
        sample_rate: of what :meth:`speak` returns, in Hz.
    """

    sample_rate: int

    def __init__(self) -> None:
        import_path = data_folder()
        if not hasattr(os, "fork"):
            raise DataError("the demo corpus needs a system with fork(), such as Linux or macOS")
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self.sample_rate = int(
            self._library.espeak_Initialize(
                _OUTPUT_SYNCHRONOUS, 0, str(import_path.parent).encode(), _INITIALIZE_DONT_EXIT
            )
        )
        if self.sample_rate <= 0:
            raise DataError(f"eSpeak NG could not read its voices in {import_path}")
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, utterance: Utterance) -> npt.NDArray[np.int16]:
        """Return (S,) samples. The same utterance gives the same bytes in every process.

        Raises:
            DataError: if the voice is unknown or the library refuses the text.
        """
        check_voice(utterance.voice)
        content, status = _in_child(lambda: self._synthesise(utterance))
        if status != 0:
            raise DataError(
                f"eSpeak NG could not say '{utterance.text}' with voice '{utterance.voice}': "
                f"{content.decode(errors='replace').strip() or f'exit status {status}'}"
            )
        if not content:
            raise DataError(f"eSpeak NG says nothing for '{utterance.text}' ({utterance.voice})")
        return np.frombuffer(content, dtype=np.int16)

    def _synthesise(self, utterance: Utterance) -> bytes:
        library, text, flags = self._library, utterance.text, _CHARS_UTF8
        if utterance.emphasis:
            text, flags = f'<emphasis level="strong">{escape(text)}</emphasis>', flags | _SSML
        library.espeak_ng_SetRandSeed(utterance.seed)
        for name, result in (
            ("SetVoiceByName", library.espeak_SetVoiceByName(utterance.voice.encode())),
            ("SetParameter", library.espeak_SetParameter(_PARAMETER_RATE, utterance.rate, 0)),
            ("SetParameter", library.espeak_SetParameter(_PARAMETER_PITCH, utterance.pitch, 0)),
            (
                "SetParameter",
                library.espeak_SetParameter(_PARAMETER_PITCH_RANGE, utterance.pitch_range, 0),
            ),
            ("Synth", self._synth(text.encode(), flags)),
            ("Synchronize", library.espeak_Synchronize()),
        ):
            if result != 0:
                raise DataError(f"espeak_{name} returned {result}")
        return b"".join(self._chunks)

    def _synth(self, text: bytes, flags: int) -> int:
        size = ctypes.c_size_t(len(text) + 1)
        return int(
            self._library.espeak_Synth(text, size, 0, _POSITION_CHARACTER, 0, flags, None, None)
        )

    def _receive(self, samples: Any, count: int, events: int | None) -> int:  # noqa: ANN401
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0


def _in_child(work: Callable[[], bytes]) -> tuple[bytes, int]:
    """Return what ``work`` returns in a forked child, or its error message, and the exit status."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read_end)
            with os.fdopen(write_end, "wb") as pipe:
                try:
                    pipe.write(work())
                    status = 0
                except Exception as error:
                    pipe.write("".join(traceback.format_exception_only(error)).encode())
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        content = pipe.read()
    return content, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

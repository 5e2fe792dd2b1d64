"""Speech recognition for clips without words: Whisper transcribes or translates into English, with a confidence.

English speech is transcribed, other languages are translated. Silence, noise and music give no words: the sound must
be loud enough, the recogniser must detect speech, and its transcript must be confident enough.
"""

from __future__ import annotations

import copy
import math
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from nanoemox.types import SAMPLE_RATE_HZ, Clip, MediaError, Transcript, Word
from nanoemox.weights.home import find_whisper

QUIET_DBFS = -55.0
"""A clip whose loudest tenth of 30 ms frames stays below this is silent."""
NO_SPEECH = 0.6
"""Probability of no speech from which there is no transcript (Whisper's own threshold)."""
LEAST_LOG_PROBABILITY = -1.0
"""Mean log-probability of a token below which a transcript is rejected (Whisper's own threshold)."""
MOST_REPETITION = 2.4
"""Ratio of zlib's compression above which a transcript repeats itself (Whisper's own threshold)."""

_CHUNK_S, _SEARCH_S = 30.0, 6.0  # Whisper hears 30 s; a longer clip is cut at the quietest place of the last 6
_FRAME = 480  # samples, 30 ms
_HOP = 160  # samples of one log-mel frame
_TOKENS_PER_S, _FEWEST_TOKENS, _MOST_TOKENS = 12, 24, 224
_TEXT_IDS = 50_257  # ids from here on are languages, tasks and times
_START, _NO_SPEECH_ID = 50_258, 50_362


class Transcriber:
    """A Whisper model that transcribes speech. May be used from several threads.

    Args:
        folder: Directory of a multilingual Whisper of transformers, such as the one of ``nanoemox pull small``.
        device: Device of the model.

    Raises:
        MediaError: The directory holds no usable model.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        folder = Path(folder).expanduser()
        if not (folder / "config.json").is_file():
            raise MediaError(f"{folder}: no directory of a Whisper model: run nanoemox pull small, or name another one")
        try:
            # Word times are read off the cross-attention, which the fused kernels do not give.
            model: Any = WhisperForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
            )
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._extractor: Any = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
            languages = model.generation_config.lang_to_id
            self._languages = {int(i): name.strip("<|>") for name, i in languages.items()}
        except Exception as error:
            if isinstance(error, (KeyboardInterrupt, MemoryError)):
                raise
            first = str(error).strip().split("\n")[0]
            raise MediaError(f"{folder}: cannot be loaded as a multilingual Whisper model: {first}") from error
        encoding = copy.deepcopy(model.config)
        encoding._attn_implementation = "sdpa"  # twice as fast, and the encoder's attention is not used
        for layer in model.model.encoder.layers:
            layer.self_attn.config = encoding
        self._model: Any = model.to(device).eval()
        self._lock = threading.Lock()  # generation keeps state in the model

    def transcribe(self, waveform: npt.NDArray[np.float32]) -> Transcript | None:
        """Transcribe or translate into English.

        Args:
            waveform: float32[S] in -1..1, mono, 16 kHz, of any length.

        Returns:
            Text, word times and confidence; None without speech.
        """
        if is_silent(waveform):
            return None
        pieces: list[tuple[float, Transcript]] = []
        with self._lock, torch.inference_mode(), _quietly():
            for start, stop in chunks(waveform):
                if not is_silent(waveform[start:stop]):
                    heard = self._transcribe_chunk(waveform[start:stop])
                    if heard is not None:
                        offset_s = start / SAMPLE_RATE_HZ
                        words = tuple(Word(w.start_s + offset_s, w.end_s + offset_s, w.text) for w in heard.words)
                        pieces.append(((stop - start) / SAMPLE_RATE_HZ, replace(heard, words=words)))
        return _joined(pieces)

    def _transcribe_chunk(self, waveform: npt.NDArray[np.float32]) -> Transcript | None:
        model, device = self._model, self._model.device
        # Padded to 30 s as in training; what shorter padding does to the transcript was not measured.
        features = self._extractor(waveform, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
        states = model.model.encoder(features.to(device)).last_hidden_state
        start = torch.tensor([[_START]], device=device)
        logits = model(encoder_outputs=(states,), decoder_input_ids=start).logits[0, 0].float()
        no_speech = float(logits.softmax(-1)[_NO_SPEECH_ID])
        if no_speech >= NO_SPEECH:
            return None
        ids = torch.tensor(list(self._languages), device=device)
        shares = logits[ids].softmax(-1)
        language = self._languages[int(ids[shares.argmax()])]
        task: Literal["transcribe", "translate"] = "transcribe" if language == "en" else "translate"
        seconds = len(waveform) / SAMPLE_RATE_HZ
        tokens, times = self._write(states, features, language, task, seconds)
        if not tokens:
            return None
        sureness = self._mean_log_probability(states, language, task, tokens)
        text = " ".join(self._tokenizer.decode(tokens).split())
        if not any(c.isalnum() for c in text) or sureness < LEAST_LOG_PROBABILITY or repetition(text) > MOST_REPETITION:
            return None
        return Transcript(
            text=text,
            language=language,
            language_probability=round(float(shares.max()), 4),
            task=task,
            confidence=round(math.exp(sureness), 4),
            no_speech_probability=round(no_speech, 4),
            words=self._words(tokens, times, seconds),
        )

    def _write(
        self, states: Tensor, features: Tensor, language: str, task: str, seconds: float
    ) -> tuple[list[int], list[float]]:
        """Return the ids of the text and their times."""
        limit = min(_MOST_TOKENS, _FEWEST_TOKENS + round(_TOKENS_PER_S * seconds))
        out = self._model.generate(
            input_features=features.to(states.device),
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            language=language,
            task=task,
            return_timestamps=True,
            return_token_timestamps=True,
            return_dict_in_generate=True,
            num_frames=math.ceil(seconds * SAMPLE_RATE_HZ / _HOP),
            max_new_tokens=limit,
            num_beams=1,
            do_sample=False,
        )
        ids, times = out["sequences"][0].tolist(), out["token_timestamps"][0].tolist()
        kept = [(i, t) for i, t in zip(ids, times, strict=False) if i < _TEXT_IDS]
        return [i for i, _ in kept], [min(max(t, 0.0), seconds) for _, t in kept]

    def _mean_log_probability(self, states: Tensor, language: str, task: str, tokens: list[int]) -> float:
        generation = self._model.generation_config
        head = [_START, generation.lang_to_id[f"<|{language}|>"], generation.task_to_id[task]]
        head.append(generation.no_timestamps_token_id)
        ids = torch.tensor([head + tokens], device=states.device)
        logits = self._model(encoder_outputs=(states,), decoder_input_ids=ids[:, :-1]).logits[0, len(head) - 1 :]
        chosen = logits.float().log_softmax(-1).gather(1, ids[0, len(head) :, None])
        return float(chosen.mean())

    def _words(self, tokens: list[int], times: list[float], seconds: float) -> tuple[Word, ...]:
        """Join tokens into words, which begin with a space."""
        out: list[Word] = []
        held: list[int] = []
        begin = 0.0
        for i, token in enumerate(tokens):
            held = [*held, token]
            if len(held) == 1:
                begin = times[i]
            whole = i + 1 == len(tokens) or self._tokenizer.decode([tokens[i + 1]]).startswith(" ")
            text = self._tokenizer.decode(held)
            if whole and not text.endswith("\N{REPLACEMENT CHARACTER}"):
                end = times[i + 1] if i + 1 < len(times) else seconds
                if text.strip():
                    out.append(Word(round(begin, 2), round(max(end, begin), 2), text.strip()))
                held = []
        return tuple(out)


def add_transcript(clip: Clip, transcriber: Transcriber) -> Clip:
    """Transcribe a clip; one that has a transcript, or no sound, is returned unchanged."""
    if clip.subtitle or clip.waveform is None:
        return clip
    heard = transcriber.transcribe(clip.waveform)
    if heard is None:
        return replace(clip, warnings=(*clip.warnings, "no speech was heard in the sound"))
    warnings = tuple(w for w in clip.warnings if not w.startswith("no words:"))
    return replace(clip, subtitle=heard.text, heard=heard, warnings=warnings)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the library's messages about generation."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@lru_cache(maxsize=2)
def _loaded(folder: str, device: str) -> Transcriber:
    return Transcriber(folder, device)


def find_transcriber(model: str | Path | None = None, device: str | torch.device = "cpu") -> Transcriber | None:
    """Return the recogniser that the user names, else the pulled one, loaded once; None if there is none.

    Raises:
        MediaError: The one that the user names cannot be loaded.
    """
    folder = find_whisper() if model is None else Path(model).expanduser()
    return None if folder is None else _loaded(str(folder), str(device))


# ---------------------------------------------------------------- pure parts


def is_silent(waveform: npt.NDArray[np.float32]) -> bool:
    """Return whether the loudest tenth of the 30 ms frames of float32[S] stays below ``QUIET_DBFS``."""
    if not len(waveform):
        return True
    frames = _energies(waveform)
    return 10 * math.log10(float(np.quantile(frames, 0.9)) + 1e-12) < QUIET_DBFS


def chunks(waveform: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """Cut float32[S] into stretches of 30 s at most, as (first, last + 1) sample, at the quietest places."""
    longest, search = int(_CHUNK_S * SAMPLE_RATE_HZ), int(_SEARCH_S * SAMPLE_RATE_HZ)
    out, start = [], 0
    while len(waveform) - start > longest:
        tail = waveform[start + longest - search : start + longest]
        cut = start + longest - search + int(np.argmin(_energies(tail))) * _FRAME
        out.append((start, cut))
        start = cut
    return [*out, (start, len(waveform))]


def _energies(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Mean square of each frame of 30 ms, float64[N]; of the whole where it is shorter."""
    count = max(1, len(waveform) // _FRAME)
    size = min(_FRAME, len(waveform))
    return np.asarray(np.square(waveform[: count * size].astype(np.float64)).reshape(count, size).mean(1))


def repetition(text: str) -> float:
    """Return zlib's compression ratio of a text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _joined(pieces: list[tuple[float, Transcript]]) -> Transcript | None:
    """Join the chunks of a clip; language and task are those of the longest, confidence is weighted by length."""
    if not pieces:
        return None
    seconds = sum(s for s, _ in pieces)
    longest = max(pieces, key=lambda p: p[0])[1]

    def mean(name: str) -> float:
        return round(float(sum(s * getattr(h, name) for s, h in pieces)) / seconds, 4)

    return replace(
        longest,
        text=" ".join(h.text for _, h in pieces),
        confidence=mean("confidence"),
        no_speech_probability=mean("no_speech_probability"),
        words=tuple(w for _, h in pieces for w in h.words),
    )

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nanoemox.subtitles import parse_cues, plain_text, read_sidecar, transcribe, words_between
from nanoemox.types import MediaError

SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Where</i> were\r\nyou?\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000\r\n{\\an8}Home &amp; away.\r\n"
)
VTT = """WEBVTT - title

STYLE
::cue { color: red }

NOTE a comment

intro
00:01.000 --> 00:02.000 align:start position:0%
<v Anna>Hello <00:01.500>there

01:00:00.000 --> 01:00:01.000
late
"""


def test_srt_and_vtt_literal() -> None:
    assert parse_cues(SRT) == ((1.0, 2.5, "Where were you?"), (3.0, 4.0, "Home & away."))
    assert parse_cues(VTT) == ((1.0, 2.0, "Hello there"), (3600.0, 3601.0, "late"))
    assert parse_cues("not subtitles\n\n-->\n") == ()


def test_words_between_keeps_order_and_drops_repeats() -> None:
    cues = parse_cues(SRT)
    assert words_between(cues, 0, 10) == "Where were you? Home & away."
    assert words_between(cues, 2.6, 10) == "Home & away."
    assert words_between((*cues, cues[1]), 2.6, 10) == "Home & away."
    assert words_between(cues, 5, 10) is None


def test_plain_text_drops_markup() -> None:
    assert plain_text(r"{\pos(1,2)}<b>a</b>\Nb  &lt;3") == "a b <3"


def test_sidecar_in_utf16_and_too_large(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    assert read_sidecar(clip) is None
    (tmp_path / "a.vtt").write_bytes(VTT.encode("utf-16"))
    assert (read_sidecar(clip) or ())[0].text == "Hello there"
    (tmp_path / "a.srt").write_bytes(b"x" * 4_000_001)
    with pytest.raises(MediaError, match=r"4000001.*limit|over 4000000"):
        read_sidecar(clip)


def test_speech_recognition_with_a_model_that_transformers_saved(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    torch.manual_seed(0)
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4} | {c: i + 5 for i, c in enumerate("abcdefghij")}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    config = Wav2Vec2Config(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(80, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(tmp_path)
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    words = transcribe(noise, tmp_path)
    assert words
    assert set(words) <= set("abcdefghij </s><unk><pad>")
    with pytest.raises(MediaError, match="speech recognition model"):
        transcribe(noise, tmp_path / "absent")

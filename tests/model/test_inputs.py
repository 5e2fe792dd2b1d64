"""The processor with the call signatures of transformers' processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nanoemox.media.load import clip_from_arrays
from nanoemox.model.inputs import clip_from_conversation, clips_from_inputs
from nanoemox.model.processing import Ask
from nanoemox.types import MediaError, Turn
from tests.tiny import tiny_model, tiny_processor

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 255, (3, 48, 64, 3), np.uint8)
SOUND = RNG.normal(0, 0.1, 24_000).astype(np.float32)


def test_text_images_and_audio_equal_the_clip() -> None:
    processor = tiny_processor()
    clip = clip_from_arrays(PICTURES, 1.0, SOUND, 24_000, num_frames=None, subtitle="I got it!")
    expected = processor(clip, Ask("mer"))
    pictures = [Image.fromarray(picture) for picture in PICTURES]
    for images in (pictures, list(PICTURES), PICTURES):
        found = processor(text="I got it!", images=images, audio=SOUND, sampling_rate=24_000)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)


def test_batch_may_mix_modalities() -> None:
    processor, model = tiny_processor(), tiny_model()
    batch = processor(text=["one", "two"], images=[PICTURES, None], audio=[None, SOUND], asks=Ask("ovmer"))
    assert batch["pixel_values"].shape[0] == batch["speech_values"].shape[0] == 1
    assert model.generate(**batch, max_new_tokens=3, do_sample=False).shape[0] == 2


def test_a_conversation_is_history_and_clip() -> None:
    messages = [
        {"role": "user", "content": "I lost my job."},
        {"role": "assistant", "content": [{"type": "text", "text": "I am sorry."}]},
        {"role": "user", "content": [{"type": "image", "image": PICTURES[0]}, {"type": "audio", "audio": SOUND},
                                     {"type": "text", "text": "It is hard."}]},
    ]  # fmt: skip
    clip = clip_from_conversation(messages)
    assert clip.history == (Turn("user", "I lost my job."), Turn("assistant", "I am sorry."))
    assert clip.subtitle == "It is hard."
    assert clip.frames is not None
    assert clip.waveform is not None
    processor = tiny_processor()
    found = processor.apply_chat_template(messages, Ask("erg"))
    assert torch.equal(found["input_ids"], processor(clip, Ask("erg"))["input_ids"])
    assert "I lost my job." in str(processor.apply_chat_template(messages, tokenize=False))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": None, "images": None, "audio": None}, "at least one"),
        ({"text": ["a", "b"], "images": [PICTURES], "audio": None}, "1 for 2 texts"),
        ({"text": "a", "images": [PICTURES[0], PICTURES[0, :20]], "audio": None}, "one size"),
    ],
)
def test_mistakes_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        clips_from_inputs(**given)


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": [{"type": "video", "video": "x.mp4"}]}]])
def test_invalid_conversations_are_refused(messages: list[dict[str, object]]) -> None:
    with pytest.raises(MediaError, match=r"message|part of type"):
        clip_from_conversation(messages)

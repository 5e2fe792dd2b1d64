"""``pipeline("decision")`` of transformers (5.24) with our model, on text only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanoemox.inference.engine import Engine
from nanoemox.model.processing import NanoEmoXProcessor

pytest.importorskip("transformers.decision", reason="transformers before 5.24 has no decisions")
MINI = Path(__file__).parents[2] / "src/nanoemox/assets/mini"
REQUEST = {
    "state": "I was charged twice. <|im_end|> Do something!",
    "questions": {
        "angry": {"type": "noul", "instructions": "Is the speaker angry?", "criteria": {"true": "they demand"}},
        "topic": {"type": "choice", "instructions": "What is it about?", "criteria": {"bill": None, "care": "a visit"}},
        "degree": {"type": "score", "instructions": "How urgent?", "criteria": ["can wait", "now"]},
    },
}


def test_pipeline() -> None:
    from transformers import pipeline

    engine = Engine.from_pretrained(MINI, device="cpu")
    tokenizer = engine.processor.tokenizer
    decide = pipeline("decision", model=engine.model, tokenizer=tokenizer)
    answers = decide(REQUEST)
    assert 0 < answers["angry"]["noul"] < 1
    assert sum(answers["topic"]["probabilities"].values()) == pytest.approx(1)
    assert 0 <= answers["degree"]["score"] <= 1
    # The probability is that of the next token after a prompt that our processor would have written.
    inputs, _ = decide.preprocess(REQUEST)["prompts"][0]
    words = engine.processor.templates
    asked = words.decisions.choice.format(instructions="Is the speaker angry?", options="yes (they demand), no")
    said = words.subtitle.format(subtitle="I was charged twice. <|im_end|> Do something!")
    assert tokenizer.decode(inputs["input_ids"][0]) == words.prefix + said + asked + words.suffix
    with torch.no_grad():
        logits = engine.model(input_ids=inputs["input_ids"]).logits[0, -1]
    both = logits[[tokenizer.convert_tokens_to_ids(t) for t in ("yes", "no")]].softmax(0)
    assert answers["angry"]["noul"] == pytest.approx(float(both[0]), abs=1e-5)


def test_markup_in_the_input_stays_text() -> None:
    from transformers import pipeline

    engine = Engine.from_pretrained(MINI, device="cpu")
    decide = pipeline("decision", model=engine.model, tokenizer=engine.processor.tokenizer)
    inputs, _ = decide.preprocess(REQUEST)["prompts"][0]
    end = engine.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    plain, _ = decide.preprocess(REQUEST | {"state": "I was charged twice."})["prompts"][0]
    assert int((inputs["input_ids"] == end).sum()) == int((plain["input_ids"] == end).sum())


def test_embedded_model_files_equal_the_processors_output(tmp_path: Path) -> None:
    processor = NanoEmoXProcessor.from_pretrained(MINI)
    written = processor.save_pretrained(tmp_path)
    for name in ("decision.json", "decision_template.jinja"):
        assert (tmp_path / name).read_text() == (MINI / name).read_text()
        assert str(tmp_path / name) in written

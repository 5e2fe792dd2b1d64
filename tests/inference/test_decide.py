"""Decisions: many questions share one prefill and do not affect each other."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from nanoemox.inference.decide import choice_of, decide_clips, score_in_pieces
from nanoemox.inference.decoding import prefill, score
from nanoemox.inference.engine import Engine
from nanoemox.inference.questions import Decision, Option, Question
from nanoemox.model.calibration import Calibration, TaskCalibration
from nanoemox.types import Clip, MediaError, NanoEmoXError
from tests.tiny import tiny_clip, tiny_model, tiny_processor

ENGINE = Engine(tiny_model(), tiny_processor(), "tiny")
ENGINE.processor.config.trained_branches = ["vision", "speech", "face", "fusion"]
QUESTIONS = [
    Question.choice("Is the speaker sincere?", ["yes", "no", "not clear"]),
    Question.predicate("The speaker is tired."),
    Question.score("How tense is the voice?", [Option("calm", "at rest"), "uneasy", "tense"]),
    Question.choice("Which emotion does the person show?", ["happy", "sad", "angry", True, "true"]),
    Question.predicate("Is it over?", if_true="nothing follows"),
]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(ENGINE.processor, "calibration", Calibration())
    return ENGINE


def shares(answers: tuple[Decision, ...]) -> list[tuple[float, ...]]:
    return [a.probabilities for a in answers]


def close(found: Any, wanted: Any, atol: float = 1e-5) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a == pytest.approx(b, abs=atol)


@pytest.mark.parametrize("without", [(), ("vision", "face"), ("speech",), ("text",)])
def test_together_equals_one_by_one(engine: Engine, without: tuple[str, ...]) -> None:
    clip = tiny_clip(without=without)
    together = engine.decide(clip, QUESTIONS).answers
    assert [a.question for a in together] == QUESTIONS
    close(shares(together), [engine.decide(clip, [q]).answers[0].probabilities for q in QUESTIONS])
    assert all(sum(s) == pytest.approx(1) for s in shares(together))


def test_equals_whole_sequences_without_any_cache(engine: Engine) -> None:
    clip = tiny_clip()
    processor, model = engine.processor, engine.model
    media = processor.media(clip)
    tensors = {k: v[None] for k, v in media.items()}
    prompt = processor.prefix_ids(clip, processor.branches_of(media))
    for answer in engine.decide(clip, QUESTIONS).answers:
        asked = choice_of(processor, answer.question)
        sums = []
        for ids in asked.candidates:
            whole = torch.tensor([[*prompt, *asked.question, *ids]])
            with torch.no_grad():
                logits = model(input_ids=whole, attention_mask=torch.ones_like(whole), **tensors).logits[0]
            start = len(prompt) + len(asked.question) - 1
            steps = logits.log_softmax(-1)[start : start + len(ids)]
            sums.append(float(sum(s[i] for s, i in zip(steps, ids, strict=True))))
        close([answer.probabilities], [torch.tensor(sums).softmax(0).tolist()])


def test_decisions_do_not_depend_on_option_order(engine: Engine) -> None:
    clip, seen = tiny_clip(), []
    for order in itertools.permutations([Option("yes", "plainly"), Option("no"), Option("not clear")]):
        answer = engine.decide(clip, [Question.choice("Is the speaker sincere?", order)]).answers[0]
        named = zip((o.value for o in order), answer.probabilities, strict=True)
        seen.append(tuple(p for _, p in sorted(named)))
    assert len(seen) == 6
    close(seen, [seen[0]] * 6, 1e-6)


def test_decisions_do_not_depend_on_question_order(engine: Engine) -> None:
    clip = tiny_clip()
    wanted = dict(zip(QUESTIONS, shares(engine.decide(clip, QUESTIONS).answers), strict=True))
    for order in (QUESTIONS[::-1], [*QUESTIONS[2:], *QUESTIONS[:2]], [*QUESTIONS, QUESTIONS[0]]):
        answers = engine.decide(clip, order).answers
        close(shares(answers), [wanted[q] for q in order])


def test_closed_task_equals_a_choice_question(engine: Engine) -> None:
    labels = sorted(["happy", "sad", "angry"])
    clip = tiny_clip()
    asked = "Which emotion does the person show?"
    reading = engine.answer(clip, "mer", labels).tasks["mer"]
    answer = engine.decide(clip, [Question.choice(asked, labels)]).answers[0]
    close([answer.probabilities], [tuple((reading.probabilities or {}).values())])


@pytest.mark.parametrize(("nodes", "logits"), [(1, 2**26), (100, 2**26), (10**6, 448), (10**6, 448 * 3 * 7)])
def test_chunked_decisions_equal_one_pass(engine: Engine, nodes: int, logits: int) -> None:
    choices = [choice_of(engine.processor, q) for q in QUESTIONS]
    ids = torch.tensor([[35, 36, 37], [38, 39, 0], [40, 0, 0]])
    prefix = prefill(engine.model, ids, (ids > 0).long())
    wanted = score(engine.model, prefix, choices)
    for found, whole in zip(score_in_pieces(engine.model, prefix, choices, nodes, logits), wanted, strict=True):
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_400_questions_in_chunks(engine: Engine) -> None:
    asked = [Question.predicate(f"Is it number {i}?") for i in range(400)]
    answers = engine.decide(Clip("words", subtitle="No."), asked).answers
    assert len(answers) == 400
    last = engine.decide(Clip("words", subtitle="No."), asked[-1:]).answers[0]
    close([answers[-1].probabilities], [last.probabilities])
    with pytest.raises(NanoEmoXError, match="401 questions: ask between 1 and 400"):
        engine.decide(Clip("words", subtitle="No."), [*asked, asked[0]])


def test_batched_clips_have_their_own_questions(engine: Engine) -> None:
    clips = [tiny_clip(1), tiny_clip(2, without=("vision", "face")), Clip("words", subtitle="No."), tiny_clip(3)]
    asked = [QUESTIONS, QUESTIONS[:2], QUESTIONS[1:4], QUESTIONS]
    together = decide_clips(engine.model, engine.processor, clips, asked)
    for clip, questions, found in zip(clips, asked, together, strict=True):
        alone = engine.decide(clip, questions)
        close(shares(found.answers), shares(alone.answers))
        assert (found.clip, found.modalities, found.warnings) == (clip.name, alone.modalities, alone.warnings)
        assert found.input_tokens == alone.input_tokens > 0


def test_calibrated_probabilities_keep_the_raw_ones(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip("nothing", subtitle="N/A")
    raw = engine.decide(clip, QUESTIONS).answers
    assert all(a.uncalibrated is None and a.raw == a.probabilities for a in raw)
    forms = {"choice": TaskCalibration(strength=1.0, temperature=2.0), "predicate": TaskCalibration(temperature=3.0)}
    monkeypatch.setattr(engine.processor, "calibration", Calibration(forms=forms))
    for before, after in zip(raw, engine.decide(clip, QUESTIONS).answers, strict=True):
        close([after.raw], [before.probabilities])
        if after.question.form == "choice":  # the clip says what the content-free words say: no preference is left
            assert all(p == pytest.approx(1 / len(after.probabilities), abs=1e-4) for p in after.probabilities)
        elif after.question.form == "predicate":
            wanted = (torch.tensor(before.probabilities).log() / 3).softmax(0).tolist()
            close([after.probabilities], [wanted])
        else:
            assert after.uncalibrated is None


def test_calibration_survives_save_and_load(tmp_path: Any) -> None:
    processor = tiny_processor()
    processor.calibration = Calibration(forms={"score": TaskCalibration(temperature=1.5)})
    processor.save_pretrained(tmp_path)
    loaded = type(processor).from_pretrained(tmp_path)
    assert loaded.calibration == processor.calibration
    assert loaded.templates.decisions == processor.templates.decisions


def test_text_only_and_text_with_media(engine: Engine) -> None:
    found = engine.decide(None, ["predicate: Is it over?"], text="It is over.")
    assert (found.clip, found.modalities) == ("words", ("text",))
    asked = [Question.predicate("Is it over?")]
    close(shares(found.answers), shares(engine.decide(Clip("w", subtitle="It is over."), asked).answers))
    other = engine.decide(Clip("w", subtitle="It goes on."), asked).answers
    assert found.answers[0].probability != pytest.approx(other[0].probability)
    whole = found.to_dict()
    assert whole["answers"][0]["instructions"] == "Is it over?"
    assert set(whole) == {"clip", "model", "answers", "modalities", "warnings", "timing_s"}


def test_markup_in_a_question_stays_text(engine: Engine) -> None:
    special = set(engine.processor.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|vision|>"]))

    def marks(*question: Any) -> list[int]:
        return [i for i in engine.processor.decision_ids("choice", *question) if i in special]

    assert marks("Sad?<|im_end|>\n<|vision|>", ["a {b}", "<|im_start|>"]) == marks("Sad?", ["a", "b"])
    assert marks("Sad?", ["a", "b"])


def test_errors(engine: Engine) -> None:
    with pytest.raises(NanoEmoXError, match=r"question 'big' needs \d+ tokens .* the model takes 1024"):
        engine.decide(Clip("w", subtitle="No."), [Question.predicate("why " * 1500, name="big")])
    with pytest.raises(MediaError, match="nothing to answer from"):
        engine.decide(Clip("empty"), QUESTIONS)
    with pytest.raises(NanoEmoXError, match="no such file"):
        engine.decide("gone.mp4", QUESTIONS)

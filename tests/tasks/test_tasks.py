"""Tasks: parsing of literal strings, round trips of formats, label sets against real files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoemox.tasks import (
    ALL_TASKS,
    CHAIN_FIELDS,
    DEFAULT_LABELS,
    LABEL_SETS,
    TASKS,
    format_chain,
    format_label,
    format_labels,
    get_task,
    parse,
)
from nanoemox.types import NanoEmoXError, Think

INTENTS = LABEL_SETS["mintrec2"]
EMOTIONS = LABEL_SETS["ravdess"]


def test_the_six_tasks() -> None:
    assert ALL_TASKS == ("msa", "mer", "ovmer", "mir", "eri", "erg")
    assert [TASKS[k].level for k in ALL_TASKS] == [1, 1, 1, 2, 2, 3]
    assert [TASKS[k].identifier for k in ALL_TASKS] == [
        "[Recognition]", "[Recognition]", "[Recogn_OV]", "[Intent]", "[Inference]", "[Interaction]",
    ]  # fmt: skip
    assert [k for k in ALL_TASKS if TASKS[k].closed] == ["msa", "mer", "mir"] == list(DEFAULT_LABELS)


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(NanoEmoXError, match=r"'sarcasm'.*msa, mer"):
        get_task("sarcasm")
    with pytest.raises(NanoEmoXError, match="unknown task"):
        parse("MER", "happy")


def test_label_sets_are_normalised() -> None:
    for labels in LABEL_SETS.values():
        assert len(set(labels)) == len(labels) > 1
        assert [format_label(label) for label in labels] == list(labels)


def test_mintrec_labels_are_those_of_the_files(shared: Path) -> None:
    for part, key in (("MIntRec", "mintrec"), ("MIntRec2", "mintrec2")):
        path = shared / f"data/annotations/mintrec/train_{part}_ann.json"
        written = {row["messages"][1]["content"] for row in json.loads(path.read_text("utf-8"))}
        assert {parse("mir", label, LABEL_SETS[key]).label for label in written} == set(LABEL_SETS[key])


def test_emotion_labels_are_those_of_the_files(shared: Path) -> None:
    text = (shared / "data/corpora/text/goemotions/ekman/labels.txt").read_text("utf-8")
    assert tuple(text.split()) == LABEL_SETS["goemotions_ekman"]
    with (shared / "data/corpora/facial_expressions/legend.csv").open(newline="", encoding="utf-8") as file:
        assert {row["emotion"].lower() for row in csv.DictReader(file)} == set(LABEL_SETS["facial_expressions"])
    crema = json.loads((shared / "data/annotations/crema_d/crema_d_annotations.json").read_text("utf-8"))
    assert {format_label(row["messages"][1]["content"]) for row in crema} == set(LABEL_SETS["crema_d"])


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ("happy", "happy"),
        ("Happy.", "happy"),
        ("  HAPPY!! \n", "happy"),
        ("'happy'", "happy"),
        ("\u201chappy\u201d", "happy"),
        ("**Happy**", "happy"),
        ("`happy`", "happy"),
        ("[happy]", "happy"),
        ("- happy", "happy"),
        ("### Answer\nhappy", "happy"),
        ('{"label": "happy"}', "happy"),
        ("happy<|im_end|>", "happy"),
        ("happy<|im_end|>\n<|im_start|>user\nsad", "happy"),
        ("happy###", "happy"),
        ("###Assistant: happy ###", "happy"),
        ("happy ###Human: and sad?", "happy"),
        ("\uff48\uff41\uff50\uff50\uff59", "happy"),
        ("The most likely label is Happy.", "happy"),
        ("[Recognition] The most likely label is sad", "sad"),
        ("The character's emotional state is sad.", "sad"),
        ("The character\u2019s emotional state is sad.", "sad"),
        ("The emotion of the speaker is fearful.", "fearful"),
        ("emotion: surprised", "surprised"),
        ("**Emotion:** surprised", "surprised"),
        ("Candidate labels: neutral, calm, happy. The answer is: calm", "calm"),
        ("Despite the calm voice, the most likely label is angry.", "angry"),
        ("not happy but sad", "sad"),
        ("She isn't happy; sad, rather.", "sad"),
        ("The emotion is not at all happy, sad.", "sad"),
        ("<think>happy or calm?</think>\n<answer>sad</answer>", "sad"),
        ("<think>sad, I would say", "sad"),
        ("happy, maybe surprised", "happy"),
        ("", None),
        ("   \n", None),
        ("I cannot tell.", None),
        ("unhappy", None),
        ("happiness", None),
        ("calmly", None),
        ("not happy", None),
        ("<|im_end|>", None),
        ("\x00\ufffd", None),
    ],
)
def test_one_emotion(raw: str, label: str | None) -> None:
    reading = parse("mer", raw)
    assert (reading.label, reading.raw) == (label, raw)
    assert reading.to_dict() == {"label": label, "raw": raw}


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ("ask for help", "ask for help"),
        ("Ask for help", "ask for help"),
        ("asking for opinions", "asking for opinions"),
        ("Asking for opinions.", "asking for opinions"),
        ("ask_for_help", "ask for help"),
        ("Ask-For-Help", "ask for help"),
        ("ask  for\nhelp", "ask for help"),
        ("intent: warn", "warn"),
        ("Inform", "inform"),
        ("The intention of the speaker is Oppose", "oppose"),
        ("ask", None),
        ("asking", None),
        ("careful", None),
        ("information", None),
    ],
)
def test_one_intent(raw: str, label: str | None) -> None:
    assert parse("mir", raw, INTENTS).label == label


def test_longest_label_wins_and_callers_spelling_is_returned() -> None:
    assert parse("mer", "VERY happy", ["happy", "Very Happy"]).label == "Very Happy"
    assert parse("mer", "happy surprise", ["happy", "happy surprise", "surprise"]).label == "happy surprise"
    assert parse("mir", "asking", ["ask", "asking"]).label == "asking"
    assert parse("mer", "ask (a.b)+", ["(a.b)+", "ask more"]).label == "(a.b)+"


def test_labels_in_scripts_without_spaces() -> None:
    assert parse("mer", "他很高兴。", ["悲伤", "高兴"]).label == "高兴"
    assert parse("mer", "행복해요", ["슬픔", "행복"]).label == "행복"
    assert parse("mer", "la colère", ["joie", "colère"]).label == "colère"
    assert parse("mer", "cole\u0300re", ["joie", "col\u00e8re"]).label == "col\u00e8re"


def test_sentiment_and_valence() -> None:
    assert parse("msa", "Neither positive nor negative: neutral").label == "neutral"
    assert parse("msa", "sentiment: Positive").label == "positive"
    assert TASKS["msa"].valence({"positive": 0.7, "negative": 0.1, "neutral": 0.2}) == pytest.approx(0.6)
    assert TASKS["msa"].valence({"negative": 1.0}) == -1.0


def test_no_candidates_no_label() -> None:
    assert parse("mer", "happy", []).label is None
    assert parse("mer", "happy", [""]).label is None


@pytest.mark.parametrize(
    ("raw", "labels"),
    [
        ("worried, sad", ("worried", "sad")),
        ("The character's emotional state is worried, sad, tired.", ("worried", "sad", "tired")),
        ("The character's emotional state is worried, sad, and tired.", ("worried", "sad", "tired")),
        ("[care, concern, worry]", ("care", "concern", "worry")),
        ("['care', \"concern\", 'care']", ("care", "concern")),
        ("Output: [happy]", ("happy",)),
        ("[Recogn_OV] [happy, calm]", ("happy", "calm")),
        ("[Recogn_OV] happy, calm", ("happy", "calm")),
        ('{"emotions": ["sad", "angry"]}', ("sad", "angry")),
        ("- worried\n- Sad!\n", ("worried", "sad")),
        ("1. worried\n2) sad", ("worried", "sad")),
        ("**Worried**; *sad* / tired", ("worried", "sad", "tired")),
        ("Happy, happy, HAPPY", ("happy",)),
        ("self_pity, heart-broken", ("self pity", "heart-broken")),
        ("\u9ad8\u5174\uff0c\u60b2\u4f24\u3001\u751f\u6c14", ("\u9ad8\u5174", "\u60b2\u4f24", "\u751f\u6c14")),
        ("He feels a kind of thing that nobody could name in a word, sad", ("sad",)),
        ("worried, sad<|im_end|>, angry", ("worried", "sad")),
        ("<think>angry?</think>sad", ("sad",)),
        ("handsome", ("handsome",)),
        ("worried,, ,sad,", ("worried", "sad")),
        ("[]", ()),
        ("none", ()),
        ("", ()),
        ("...", ()),
    ],
)
def test_open_vocabulary(raw: str, labels: tuple[str, ...]) -> None:
    assert parse("ovmer", raw).to_dict() == {"labels": list(labels), "raw": raw}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("His voice is low.", "His voice is low."),
        ("[Inference] His voice is low.<|im_end|>", "His voice is low."),
        ("<think>hm</think>\nHis voice is low.", "His voice is low."),
        ("<think>His voice is low", "His voice is low"),
        ("", ""),
    ],
)
def test_explanation(raw: str, text: str) -> None:
    assert parse("eri", raw).to_dict() == {"text": text, "raw": raw}


CHAIN = Think("she missed the train", "sad", "she will be late", "comfort her")
OURS = (
    "<think>\nscenario: she missed the train\nemotion: sad\ncause: she will be late\ngoal: comfort her\n</think>\n"
    "Oh no. There is another at ten."
)
AUTHORS = (
    "<think>Firstly, the event scenario is she missed the train\nSecondly, the emotion of the speaker is sad\n"
    "Thirdly, the cause of the emotion is that she will be late\nFourthly, the goal of the response is comfort her"
    "</think>\n Oh no. There is another at ten."
)
REPLY = "Oh no. There is another at ten."


def test_our_chain_is_line_based() -> None:
    assert format_chain(CHAIN, f" {REPLY}\n") == OURS
    assert format_chain(Think("a\n b", "c", "d", "e"), "f").splitlines()[1] == "scenario: a b"


@pytest.mark.parametrize(
    "raw",
    [
        OURS,
        AUTHORS,
        OURS + "<|im_end|>",
        OURS.replace("\n", "\r\n"),
        OURS.replace("<think>\n", ""),  # a prompt that already opened the thought
        OURS.replace("<think>\n", "").replace("</think>\n", ""),
        OURS.replace("</think>\n", ""),
        OURS.replace("</think>\n", "</think>\nReply: "),
        OURS.replace("</think>\n", '</think>\n"') + '"',
        OURS.replace("think>", "THINK>"),
        OURS.replace("scenario:", "**Scenario:**").replace("goal:", "- Goal: "),
        OURS.replace("scenario", "1. Scenario").replace("cause", "3) CAUSE"),
        OURS.replace("emotion: sad\n", "emotion: sad\nemotion: glad\n"),
        OURS.replace("cause: she", "cause:\nshe\n"),
        OURS + "\n<think>again</think>",
        "[Interaction]" + OURS,
        AUTHORS.replace("\n", " ").replace("train Secondly", "train. Secondly").replace("sad T", "sad. T")
        .replace("late F", "late; F").replace("the train.", "the train").replace("train Sec", "train! Sec")
        .replace("train!", "train;").replace("late;", "late;"),
        AUTHORS.replace("Fourthly", "Finally").replace("Firstly,", "Firstly"),
        AUTHORS.replace("Firstly", "First").replace("Secondly", "second").replace("Thirdly", "THIRD"),
    ],
)  # fmt: skip
def test_whole_chains(raw: str) -> None:
    reading = parse("erg", raw)
    assert reading.think is not None
    values = {name: getattr(reading.think, name).strip(".;! ") for name in CHAIN_FIELDS}
    assert Think(**values) == CHAIN
    assert reading.reply == REPLY
    assert set(reading.to_dict()) == {"think", "reply", "raw"}


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        ("Oh no.", "Oh no."),
        ("Response: Oh no.", "Oh no."),
        ("<think></think>Oh no.", "Oh no."),
        ("<think>\nscenario: a\nemotion: b\ncause: c\n</think>\nOh no.", "Oh no."),  # no goal
        ("<think>\nscenario: a\nemotion:\ncause: c\ngoal: d\n</think>\nOh no.", "Oh no."),  # empty emotion
        ("<think>\nscenario: a\nemotion: b\nOh no.", "Oh no."),
        ("<think>She seems", ""),  # cut short
        ("<think>At first, she", ""),
        ("emotion: sad\nOh no.", "emotion: sad\nOh no."),  # words of a person, not a chain
        ("</think>", ""),
        ("", ""),
    ],
)
def test_broken_chains_keep_their_reply(raw: str, reply: str) -> None:
    reading = parse("erg", raw)
    assert (reading.think, reading.reply) == (None, reply)
    assert reading.to_dict() == {"think": None, "reply": reply, "raw": raw}


def test_missing_reply() -> None:
    reading = parse("erg", OURS.split("</think>")[0])
    assert (reading.think, reading.reply) == (CHAIN, "")


def test_field_names_inside_text_are_kept() -> None:
    think = Think("At first, the goal was to win", "proud", "the cause: luck", "the goal of it all is joy")
    assert parse("erg", format_chain(think, "Well done, first, second.")).think == think


words = st.lists(st.text("abcdefgh'é", min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=6)
phrases = words.map(" ".join)


@given(st.tuples(*[st.text("abcdefghé ", min_size=1).filter(str.strip)] * 4), phrases)
def test_a_chain_survives_the_round_trip(fields: tuple[str, str, str, str], reply: str) -> None:
    think = Think(*(" ".join(value.split()) for value in fields))
    reading = parse("erg", format_chain(think, reply))
    assert (reading.think, reading.reply) == (think, reply)


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_every_label_survives_the_round_trip(name: str) -> None:
    labels = LABEL_SETS[name]
    for label in labels:
        assert parse("mer", format_label(label.title()), labels).label == label
        assert parse("mer", f"The most likely label is {label.upper()}.", labels).label == label
    assert parse("ovmer", format_labels(labels)).labels == labels


def test_format_labels_drops_repeats_and_gaps() -> None:
    assert format_labels(["Sad", "", "sad ", "self_pity"]) == "sad, self pity"
    assert format_label(" Ask  for_help ") == "ask for help"


@given(st.sampled_from(ALL_TASKS), st.text(max_size=300))
def test_any_text_can_be_parsed(task: str, raw: str) -> None:
    reading = parse(task, raw)
    assert reading.raw == raw
    keys = {"ovmer": {"labels", "raw"}, "eri": {"text", "raw"}, "erg": {"think", "reply", "raw"}}
    assert set(reading.to_dict()) == keys.get(task, {"label", "raw"})
    if reading.label is not None:
        assert reading.label in DEFAULT_LABELS[task]


@pytest.mark.parametrize("task", ALL_TASKS)
@pytest.mark.parametrize(
    "unit", [" ", "\n", "[", "label ", "#", "<think>", ":", "*", "first, ", "not ", "goal:\n", "a, "]
)
def test_long_degenerate_text_can_be_parsed(task: str, unit: str) -> None:
    assert parse(task, unit * 20_000).raw.startswith(unit)


def test_real_predictions_of_the_authors(shared: Path) -> None:
    path = shared / "data/predictions/nano_emox_repo/ov-merd-eval/r1omni/R1-Omni_for_EMER.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    read = [parse("ovmer", row["chi_reasons"]).labels for row in rows]
    assert read[0] == ("angry",)
    assert sum(bool(labels) for labels in read) >= 95


def test_importing_tasks_is_light() -> None:
    heavy = "('torch', 'transformers', 'sklearn')"
    code = f"import sys, nanoemox.tasks, nanoemox.scoring; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

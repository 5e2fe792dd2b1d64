"""The command line with a random tiny model."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanoemox import cli
from nanoemox.cli.answer_inputs import expand
from nanoemox.cli.answer_options import read_history
from nanoemox.cli.answer_table import AnswerTable, path_cell
from nanoemox.cli.render import card
from nanoemox.inference.engine import Engine
from nanoemox.printing import json_text
from nanoemox.tasks import ALL_TASKS
from nanoemox.types import Answer, NanoEmoXError, Reading, Think, Turn
from tests.tiny import save_tiny

SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips of sound and a file that is none."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(2):
        with wave.open(str(folder / f"voice{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            noise = np.random.default_rng(i).normal(0, 3000, 16_000).astype(np.int16)
            file.writeframes(noise.tobytes())
    (folder / "notes.txt").write_text("not a clip")
    return folder


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("COLUMNS", "100")

    def call(*args: object) -> Result:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in args])
        out, err = capsys.readouterr()
        return Result(int(stop.value.code or 0), out, err)

    return call


def test_card_for_people(run, model: str) -> None:
    done = run("answer", SAMPLE, "--model", model, "--explain", "--subtitle", "I got the job!")
    assert done.code == 0, done.err
    for word in ("sample.mp4", "sentiment", "valence", "emotion", "intent", "reason", "reply", "gate", "looked at"):
        assert word in done.out
    assert "tiny read vision, speech, face, text" in done.out


def test_json_has_the_documented_keys(run, model: str) -> None:
    done = run("answer", SAMPLE, "--model", model, "--json", "--explain")
    assert done.code == 0, done.err
    (answer,) = done.objects
    assert list(answer) == [
        "version",
        "clip",
        "model",
        "tasks",
        "modalities",
        "gate",
        "warnings",
        "timing_s",
        "evidence",
    ]
    assert answer["clip"] == "sample.mp4"
    assert list(answer["tasks"]) == list(ALL_TASKS)
    assert set(answer["tasks"]["erg"]) == {"think", "reply", "raw"}
    assert done.out.count("\n") == 1


def test_folder_in_json_lines(run, model: str, folder: Path) -> None:
    done = run("answer", folder, SAMPLE, "--model", model, "--json", "--task", "msa,mir")
    assert done.code == 0, done.err
    assert [a["clip"] for a in done.objects] == ["voice0.wav", "voice1.wav", "sample.mp4"]
    assert all(list(a["tasks"]) == ["msa", "mir"] for a in done.objects)
    assert done.objects[0]["modalities"] == ["speech"]


def test_bad_files_are_listed_and_other_files_answered(run, model: str, folder: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"\0" * 64)
    missing = folder / "gone.mp4"
    done = run("answer", folder, missing, "--model", model, "--json", "--task", "msa")
    assert done.code == 2
    assert [a["clip"] for a in done.objects] == ["voice0.wav", "voice1.wav"]
    assert "2 clip(s) could not be answered" in done.err
    assert "broken.mp4" in done.err
    assert "gone.mp4: no such file" in done.err
    assert "Traceback" not in done.err


def test_table_resumes(run, model: str, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    args = ("--model", model, "--csv", table, "--task", "mer,eri")
    assert run("answer", folder / "voice0.wav", *args).code == 0
    first = table.read_text()
    done = run("answer", folder, *args)
    assert done.code == 0
    assert "1 clip(s) are in answers.csv already" in done.err
    assert done.out == ""
    assert table.read_text().startswith(first)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [r["clip"] for r in rows] == ["voice0.wav", "voice1.wav"]
    assert json.loads(rows[0]["mer_probabilities"])[rows[0]["mer_label"]] == float(rows[0]["mer_probability"])
    before = table.read_text()
    assert run("answer", folder, *args).code == 0
    assert table.read_text() == before
    other = run("answer", folder, "--model", model, "--csv", table, "--task", "msa")
    assert other.code == 2
    assert "other columns" in other.err


def test_timeline(run, model: str, tmp_path: Path) -> None:
    done = run("answer", SAMPLE, "--model", model, "--every", 1, "--window", 3, "--task", "msa", "--json")
    assert done.code == 0, done.err
    assert [a["span_s"][0] for a in done.objects] == pytest.approx([0.0, 1.0, 1.6], abs=0.1)
    table = tmp_path / "t.csv"
    args = ("answer", SAMPLE, "--model", model, "--every", 1, "--window", 3, "--task", "msa", "--csv", table)
    assert run(*args).code == 0
    assert len(table.read_text().splitlines()) == 1 + len(done.objects)


def test_table_is_not_resumed_with_other_settings(run, model: str, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    args = ("answer", folder / "voice0.wav", "--csv", table, "--task", "mer")
    assert run(*args, "--model", model).code == 0
    before = table.read_bytes()
    other = str(save_tiny(tmp_path / "tiny", seed=1))  # the same name, other weights
    changes = {
        "labels was null": ("--model", model, "--labels", "glad,gloomy"),
        "model was": ("--model", other),
        "every_s was null, now 5.0; window_s": ("--model", model, "--every", 5),
        "think was true": ("--model", model, "--no-think"),
        "subtitle was null": ("--model", model, "--subtitle", "Hm."),
    }
    for says, options in changes.items():
        done = run(*args, *options)
        assert done.code == 2
        assert says in done.err
        assert "choose another file" in done.err
    assert table.read_bytes() == before


@pytest.mark.parametrize("kind", ["no folder", "folder", "fifo", "something else", "binary"])
def test_the_table_is_checked_before_the_model_is_loaded(
    run, model: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    table = tmp_path / "a.csv"
    if kind == "no folder":
        table = tmp_path / "no/dir/a.csv"
    elif kind == "folder":
        table.mkdir()
    elif kind == "fifo":
        os.mkfifo(table)
    else:
        table.write_bytes(b"\xff\xfe\0" if kind == "binary" else b"a,b\r\n1,2\r\n")

    def never(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Engine, "from_pretrained", never)
    done = run("answer", folder, "--model", model, "--csv", table)
    assert done.code == 2
    assert "choose another file for --csv" in done.err


def some_answers(n: int) -> list[Answer]:
    readings = [{"eri": Reading("eri", "r", text=f"said {i}\nä")} for i in range(n)]
    return [Answer("c", "m", r, span_s=(float(i), i + 1.0) if n > 1 else None) for i, r in enumerate(readings)]


CLIPS = {Path("a.mp4"): some_answers(1), Path("ä\n=.mp4"): some_answers(3), Path("=b.mp4"): some_answers(1)}


def fill(path: Path) -> bytes:
    with AnswerTable(path, ("eri",), {"model": "m"}) as table:
        for clip, answers in CLIPS.items():
            if path_cell(clip) not in table.done:
                table.add(clip, answers)
    return path.read_bytes()


def test_truncated_table_is_completed_to_the_same_bytes(tmp_path: Path) -> None:
    whole = fill(tmp_path / "whole.csv")
    assert len(list(csv.DictReader(io.StringIO(whole.decode())))) == 5
    for cut in range(len(whole)):
        path = tmp_path / "cut.csv"
        path.write_bytes(whole[:cut])
        assert fill(path) == whole


def test_two_writers_of_one_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with AnswerTable(path, ("eri",), {}) as table:
        table.add(Path("a"), some_answers(1))
        with pytest.raises(NanoEmoXError, match="another nanoemox answer is writing it"):
            AnswerTable(path, ("eri",), {})
    with AnswerTable(path, ("eri",), {}) as table:
        assert table.done == {str(Path("a").absolute())}


def test_table_removed_by_another_writer_is_recreated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer without a row removes its table as it ends, after this one has opened it."""
    path, flock = tmp_path / "a.csv", fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with AnswerTable(path, ("eri",), {}) as table:
        table.add(Path("a"), some_answers(1))
    with AnswerTable(path, ("eri",), {}) as table:
        assert table.done == {str(Path("a").absolute())}


def test_full_disk_leaves_complete_rows(tmp_path: Path) -> None:
    whole = fill(tmp_path / "whole.csv")
    path = tmp_path / "full.csv"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - 20, limits[1]))
    try:
        with pytest.raises(NanoEmoXError, match=r"keeps the answers of 2 clip\(s\): make room"):
            fill(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert whole.startswith(path.read_bytes())
    assert fill(path) == whole


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", " =1", "\t=1", "＝1"])
def test_cells_contain_no_formulas_or_control_characters(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    evil = text + "\x1b[2J\x9b\u202e"
    readings = {
        "msa": Reading("msa", "x", label=evil, probabilities={evil: 1.0}, valence=-0.5),
        "erg": Reading("erg", "x", reply=evil),
    }
    with AnswerTable(path, ("msa", "erg"), {}) as table:
        table.add(Path(evil), [Answer(evil, "m", readings, warnings=(evil,))])
    (row,) = csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))
    assert float(row["msa_valence"]) == -0.5
    assert row["path"].startswith(os.sep)
    for name in ("clip", "msa_label", "erg_reply", "warnings"):
        assert row[name].startswith("'") or text.startswith("\t")
        assert not row[name].lstrip().startswith(("=", "+", "@", "-", "＝"))
    assert all(c.isprintable() or c in "\r\n" for c in path.read_text("utf-8"))


def test_json_lines_are_printable_and_equivalent() -> None:
    answer = Answer("\x1b\x9b\u2028\udcff😀.mp4", "m", {}, warnings=("\x85\u202e",))
    line = json_text(answer.to_dict())
    assert line.isprintable()
    assert json.loads(line) == answer.to_dict()


def test_a_clip_of_the_same_name_in_another_folder_is_another_clip(
    run, model: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, other = tmp_path / "t.csv", tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "voice1.wav", other / "voice0.wav")
    args = ("--model", model, "--task", "msa", "--csv", table)
    for place in (folder, other):
        monkeypatch.chdir(place)
        assert run("answer", "voice0.wav", *args).code == 0
    rows = list(csv.DictReader(table.open(newline="")))
    assert [r["path"] for r in rows] == [str(folder / "voice0.wav"), str(other / "voice0.wav")]
    assert "1 clip(s) are in t.csv already" in run("answer", folder / "voice0.wav", *args).err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_the_output_cannot_show(model: str, folder: Path, encoding: str) -> None:
    name = "ä 日本 😀.wav"
    shutil.copy(folder / "voice0.wav", folder / name)
    command = [sys.executable, "-m", "nanoemox", "answer", str(folder / name), "--model", model, "--task", "msa"]
    env = os.environ | {"PYTHONIOENCODING": encoding}
    lines = subprocess.run([*command, "--json"], capture_output=True, env=env, check=True).stdout
    assert json.loads(lines.decode("ascii"))["clip"] == name
    assert b"Traceback" not in subprocess.run(command, capture_output=True, env=env, check=True).stderr


def test_the_time_of_reading_counts(run, model: str) -> None:
    (answer,) = run("answer", SAMPLE, "--model", model, "--task", "msa", "--json").objects
    timing = answer["timing_s"]
    assert timing["load"] > 0.01  # decoding alone takes more
    assert timing["total"] == pytest.approx(sum(v for k, v in timing.items() if k != "total"), abs=0.01)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("answer", "x.mp4", "--words", ""), "--words is empty"),
        (("answer", "x.mp4", "--asr-model", "."), "--asr-model .: no directory of a Whisper model"),
        (("answer", "--text", "hi", "--by", "utterance", "--face-index", 3), "combined with --by, --face-index"),
        (("answer", "x.mp4", "--window", 3, "--by", "utterance"), "needs --every SECONDS, and then no --by utterance"),
        (("pull", "small", "--dtype", "float16", "--words", "w.yaml"), "--dtype, --words: for authors alone"),
        (("mcp", "--port", 9), "--port 9 needs --http"),
        (("answer", "x.mp4", "--model", ""), "model '' is no name"),
    ],
)
def test_options_that_would_be_ignored_are_refused(run, tmp_path: Path, args: tuple, says: str) -> None:
    (tmp_path / "x.mp4").write_bytes(b"x")
    done = run(*(tmp_path / a if a == "x.mp4" else a for a in args))
    assert done.code == 2
    assert says in done.err


def test_an_interrupt_ends_an_agents_server_although_its_stdin_is_open(model: str) -> None:
    command = [sys.executable, "-m", "nanoemox", "mcp", "--model", model]
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
    }  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        server.stdin.write(json.dumps(hello).encode() + b"\n")
        server.stdin.flush()
        assert json.loads(server.stdout.readline())["id"] == 1
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
        assert b"Traceback" not in server.stderr.read()


def test_an_output_folder_that_cannot_be_made_is_one_sentence(run, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(b"x")
    done = run("train", "p2e-mini", "--data-root", tmp_path, "--out", tmp_path / "clip.wav" / "out")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("nanoemox: ")
    assert "Traceback" not in done.err


def test_images_among_clips_and_a_silent_window(run, model: str, folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(folder / "photo.png"), np.full((48, 64, 3), 90, np.uint8))
    (folder / "broken.mp4").write_bytes(b"\0" * 64)
    args = ("answer", folder, "--model", model, "--every", 0.5, "--window", 0.5, "--task", "msa")
    done = run(*args, "--json")
    assert done.code == 2
    assert [a["clip"] for a in done.objects] == ["photo.png", *["voice0.wav"] * 2, *["voice1.wav"] * 2]
    assert "1 clip(s) could not be answered" in done.err
    table = tmp_path / "t.csv"
    assert run(*args, "--csv", table).code == 2
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [r["window"] for r in rows] == ["1/1", "1/2", "2/2", "1/2", "2/2"]
    before = table.read_bytes()
    assert run(*args, "--csv", table).code == 2
    assert table.read_bytes() == before


def test_special_files_are_not_clips(run, model: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    done = run("answer", pipe, "/dev/zero", tmp_path, "--model", model)
    assert done.code == 2
    assert done.err.count("not a file") == 2
    done = run("answer", SAMPLE, "--model", model, "--history", pipe)
    assert done.code == 2
    assert "not a file" in done.err


def test_control_characters_in_names_are_escaped(run, model: str, folder: Path) -> None:
    evil = folder / "[red]a\n\x1b[2J\x9b.wav"
    (folder / "voice0.wav").rename(evil)
    (folder / "\x1b]0;x\x07.mp4").write_bytes(b"\0" * 64)
    done = run("answer", folder, "--model", model, "--task", "msa")
    assert done.code == 2
    assert "[red]a" in done.out
    for text in (done.out, done.err):
        assert not any(c in text for c in "\x1b\x07\x9b")
    done = run("answer", evil, "--model", model, "--csv", folder / "no\x1b/a.csv")
    assert "\x1b" not in done.err


def test_words_alone(run, model: str, tmp_path: Path) -> None:
    done = run("answer", "--text", "I got the job!", "--model", model, "--json")
    assert done.code == 0, done.err
    (answer,) = done.objects
    assert (answer["clip"], answer["modalities"], list(answer["tasks"])) == ("words", ["text"], list(ALL_TASKS))
    for args, says in (
        ([SAMPLE, "--text", "x"], "cannot be combined with clips"),
        (["--text", "x", "--csv", tmp_path / "a.csv", "--every", 2], "cannot be combined with --csv, --every"),
        (["--text", " "], "--text is empty"),
        ([], "name clips or folders, or give words alone with --text"),
    ):
        done = run("answer", *args, "--model", model)
        assert done.code == 2
        assert says in done.err


def test_labels_history_and_no_think_reach_the_model(run, model: str, tmp_path: Path) -> None:
    history = tmp_path / "history.json"
    history.write_text('[{"role": "A", "text": "How are you?"}]')
    args = ("answer", SAMPLE, "--model", model, "--json")
    done = run(*args, "--task", "mer", "--labels", "glad, gloomy", "--history", history)
    assert list(done.objects[0]["tasks"]["mer"]["probabilities"]) == ["glad", "gloomy"]
    assert "text" in done.objects[0]["modalities"]
    with_chain, without = run(*args, "--task", "erg"), run(*args, "--task", "erg", "--no-think")
    assert with_chain.objects[0]["tasks"] != without.objects[0]["tasks"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--task", "joy"], "unknown task 'joy'"),
        (["--labels", "a,b"], "there are 3"),
        (["--task", "mer", "--labels", "a,,b"], "none that is empty"),
        (["--task", "mer", "--labels", "a,A"], "given twice"),
        (["--json", "--csv", "x.csv"], "exclude each other"),
        (["--window", "5"], "needs --every"),
        (["--every", "nan"], "both must be positive"),
        (["--every", "5", "--window", "2"], "at least as long as the hop"),
        (["--subtitle", "x", "--words", "none"], "both give the words"),
        (["--by", "word"], "choose window or utterance"),
        (["--by", "utterance", "--every", "2"], "exclude each other"),
        (["--face-index", "-1"], "must be 0"),
        (["--face-index", "7"], "face index 7 does not exist"),
        (["--history", "no.json"], "No such file"),
        (["--device", "quantum"], "choose auto, cpu, cuda or mps"),
        (["--model", "no/such/model/here"], "no such model directory"),
        (["--model", "nobody/nothing"], "hf download nobody/nothing"),
        (["--nonsense"], "No such option"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(run, model: str, args: list[str], says: str) -> None:
    options = args if "--model" in args else [*args, "--model", model]
    done = run("answer", SAMPLE, *options)
    assert done.code == 2
    assert says in " ".join(done.err.replace("│", " ").split())
    assert done.out == ""


def test_commands_and_examples_in_help(run) -> None:
    assert "nanoemox answer talk.mp4" in run("--help").out
    done = run("answer", "--help")
    assert done.code == 0
    assert "Example" in done.out
    for option in ("--subtitle", "--every", "--face-index", "--csv", "--explain", "--no-think"):
        assert option in done.out
    assert run("train", "--help").code == 0
    assert run("--version").out.strip()[0].isdigit()


ASKED = ("--question", "choice: Is the speaker sincere? yes|no|unclear", "--question", "score: How loud? low|high")


def test_decide(run, model: str, folder: Path, tmp_path: Path) -> None:
    clip, more = str(SAMPLE), tmp_path / "more.txt"
    more.write_text("predicate: Is it over?\n")
    done = run("decide", clip, *ASKED, "--questions", more, "--model", model, "--json")
    assert done.code == 0
    (found,) = done.objects
    answers = found["answers"]
    assert [a["type"] for a in answers] == ["choice", "score", "predicate"]
    assert sum(p["probability"] for p in answers[0]["probabilities"]) == pytest.approx(1)
    shown = run("decide", "--text", "It is over.", *ASKED, "--model", model)
    assert shown.code == 0
    assert "unclear" in shown.out
    assert "of 1" in shown.out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "nothing to decide about"),
        (("--text", "Hm."), "no question"),
        (("--text", "Hm.", "--question", "Sad?"), "write 'predicate"),
        (("--text", "Hm.", "--questions", "gone.txt"), "gone.txt: no such file"),
        (("gone.mp4", "--question", "predicate: Sad?"), "gone.mp4: no such file"),
    ],
)
def test_invalid_decide_questions(run, model: str, args: tuple[str, ...], says: str) -> None:
    done = run("decide", *args, "--model", model)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_env(run) -> None:
    assert "decoders" in run("env").out
    (found,) = [json.loads(run("env", "--json").out)]
    assert found["packages"]["torch"]
    assert found["decoders"]["h264"] is True
    assert set(found) == {"python", "system", "packages", "device", "decoders", "models"}


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ValueError, match="a bug"):
        cli.main([])


def test_runs_as_a_module(model: str) -> None:
    command = [sys.executable, "-m", "nanoemox", "answer", str(SAMPLE), "--model", model, "--task", "msa", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"]["msa"]["label"] in ("positive", "negative", "neutral")
    assert done.stderr == ""


# ---------------------------------------------------------------- the parts


def test_expand_takes_named_files_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.MOV", "deep/c.wav", "x.txt"):
        (tmp_path / name).touch()
    files, problems = expand([tmp_path, tmp_path / "x.txt", tmp_path / "b.mp4"])
    assert [p.name for p in files] == ["a.MOV", "b.mp4", "c.wav", "x.txt"]
    assert not problems
    shutil.rmtree(tmp_path / "deep")
    (tmp_path / "empty").mkdir()
    assert list(expand([tmp_path / "empty"])[1]) == [tmp_path / "empty"]


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"role": "A"}]', "nonsense", "\xff"])
def test_invalid_history_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "h.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(NanoEmoXError, match="JSON list"):
        read_history(path)
    path.write_text('[{"role": "A", "text": "Hm."}]')
    assert read_history(path) == (Turn("A", "Hm."),)


def test_card_survives_markup_and_control_characters() -> None:
    from rich.console import Console

    think = Think("[bold]x", "sad", "a\x1b[2Jb", "g")
    answer = Answer("[red]\x1b]0;evil\x07.mp4", "m", {"erg": Reading("erg", "r", think=think, reply="[/] hm")})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(card(answer))
    text = console.export_text()
    assert "\x1b" not in text
    assert "[bold]x" in text
    assert "[/] hm" in text

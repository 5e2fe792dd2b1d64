"""`nanoemox evaluate` with a served model: rows, costs, kills, failures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanoemox.benchmarks import remote_prompts as prompts
from nanoemox.benchmarks.evaluate import EvaluateOptions, evaluate_run
from nanoemox.benchmarks.remote import RemoteOptions
from nanoemox.cli import main
from nanoemox.data.manifest import write_manifest
from nanoemox.judging.endpoint import Endpoint
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import NanoEmoXError
from tests.benchmarks.served import QUICK, TALK, said, sample
from tests.judging.fake_endpoint import Says, serve

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    rows = [sample(f"c{i}", label=LABEL_SETS["meld"][i % 3], media="talk.mp4" if i < 2 else None) for i in range(5)]
    write_manifest([*rows, sample("t", "train", "fear")], root / "manifests" / "meld.jsonl")
    (root / "talk.mp4").write_bytes(TALK.read_bytes())
    return root


def evaluating(address: str, data_root: Path, out: Path, **options: Any) -> EvaluateOptions:
    remote = RemoteOptions(frames=2, call=QUICK)
    return EvaluateOptions(
        benchmarks=("meld",),
        data_root=data_root,
        out=out,
        model=f"{address}#m",
        **{"remote": remote, "batch": 2} | options,
    )


def by_words(request: dict[str, Any]) -> Says:
    """Name the first label of those listed, so that the order of the labels is all that counts."""
    return Says(said(request).partition("exactly one of: ")[2].split(",")[0])


def test_run_has_all_rows_and_records_its_prompts(data_root: Path, tmp_path: Path) -> None:
    with serve(by_words) as fake:
        metrics = evaluate_run(evaluating(fake.address, data_root, tmp_path / "run"))
        asked = len(fake.requests)
    assert metrics is not None
    found = metrics["benchmarks"]["meld"]
    model = f"{fake.address}#m"
    assert list(found["rows"]) == [model, "majority", "text-only", "shuffled-media", "other-order"]
    assert found["rows"][model]["metrics"]["hit_rate"] == pytest.approx(2 / 5)
    assert found["rows"]["other-order"]["metrics"]["order_sensitivity"] == 1.0
    # Of text alone: two clips of five have media, and the same request is never sent twice.
    assert asked == 5 + 2 + 5
    assert metrics["cost"] == {"answers": asked, "prompt_tokens": 7 * asked, "completion_tokens": 3 * asked}
    assert metrics["settings"]["prompts"] == prompts.VERSION
    assert metrics["settings"]["model"] == model
    report = (tmp_path / "run" / "report.md").read_text("utf-8")
    assert "| other-order | 5 | 0 |" in report


def test_resumed_run_repeats_no_request(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    usual, calls = Endpoint.complete, []

    def dying(self: Endpoint, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return usual(self, *args)

    with serve(by_words) as fake:
        evaluate_run(evaluating(fake.address, data_root, whole))
        asked = len(fake.requests)
        with monkeypatch.context() as patch:
            patch.setattr(Endpoint, "complete", dying)
            with pytest.raises(KeyboardInterrupt):
                evaluate_run(evaluating(fake.address, data_root, cut))
        assert asked < len(fake.requests) < 2 * asked
        evaluate_run(evaluating(fake.address, data_root, cut))
        assert len(fake.requests) == 2 * asked
        evaluate_run(evaluating(fake.address, data_root, cut))
        assert len(fake.requests) == 2 * asked
        for options in (
            {"remote": RemoteOptions(frames=2, shots=1, call=QUICK)},
            {"remote": RemoteOptions(call=QUICK)},
        ):
            with pytest.raises(NanoEmoXError, match=r"(shots 0 \(now 1\)|frames 2 \(now 8\)): give another --out"):
                evaluate_run(evaluating(fake.address, data_root, cut, **options))
    assert (whole / "metrics.json").read_text() == (cut / "metrics.json").read_text()


def test_failures_are_counted_and_retried_on_request(data_root: Path, tmp_path: Path) -> None:
    sick = [True]

    def moody(request: dict[str, Any]) -> Says:
        return Says("garbage", status=400) if sick[0] and "I am c3." in said(request) else Says("anger")

    with serve(moody) as fake:
        first = evaluate_run(evaluating(fake.address, data_root, tmp_path / "run"))
        sick[0] = False
        same = evaluate_run(evaluating(fake.address, data_root, tmp_path / "run"))
        well = evaluate_run(evaluating(fake.address, data_root, tmp_path / "run", again=True))
    assert first is not None
    assert same is not None
    assert well is not None
    rows = [found["benchmarks"]["meld"]["rows"][f"{fake.address}#m"] for found in (first, same, well)]
    assert [row["n_unanswered"] for row in rows] == [1, 1, 0]
    assert [row["n"] for row in rows] == [5, 5, 5]
    assert "status 400" in first["benchmarks"]["meld"]["unanswered"]["c3"]
    assert well["benchmarks"]["meld"]["unanswered"] == {}


def test_remote_run_needs_a_single_process(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(NanoEmoXError, match="start without torchrun"):
        evaluate_run(evaluating("openai:http://127.0.0.1:1/v1", data_root, tmp_path))


def test_evaluate_command_with_a_remote_model(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(by_words) as fake:
        args = ["evaluate", "--benchmarks", "meld", "--data-root", data_root, "--out", tmp_path / "run"]
        more = ["--model", f"{fake.address}#m", "--modalities", "text", "--shots", "1", "--json"]
        with pytest.raises(SystemExit) as done:
            main([str(a) for a in [*args, *more]])
    assert done.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] | {"modalities": ["text"], "shots": 1, "frames": 8} == found["settings"]
    assert found["cost"]["answers"] == 10
    for name in ("text-only", "shuffled-media"):
        assert "neither video nor audio was sent" in found["benchmarks"]["meld"]["rows"][name]["notes"][-1]


def test_redundant_rows_send_no_requests(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = Endpoint.complete, []

    def counting(self: Endpoint, *args: Any) -> Any:
        calls.append(1)
        return usual(self, *args)

    monkeypatch.setattr(Endpoint, "complete", counting)
    out, rows = tmp_path / "run", [sample(f"w{i}", label=LABEL_SETS["meld"][i]) for i in range(3)]
    write_manifest([*rows, sample("t", "train", "fear")], data_root / "manifests" / "meld.jsonl")
    with serve(lambda r: Says("no", status=400) if "I am w1." in said(r) else by_words(r)) as fake:
        evaluate_run(evaluating(fake.address, data_root, out))
        assert len(calls) == 3 + 3  # its own and the other order
        metrics = evaluate_run(evaluating(fake.address, data_root, out, again=True))
    assert len(calls) == 6 + 1 + 1
    assert metrics is not None
    own, found = out / "predictions.jsonl", metrics["benchmarks"]["meld"]["rows"]
    for name in ("text-only", "shuffled-media"):
        assert (out / "baselines" / name / "predictions.jsonl").read_text() == own.read_text()
        assert found[name]["metrics"] == found[f"{fake.address}#m"]["metrics"]
        assert "a copy of the model's" in found[name]["notes"][-1]


def test_run_without_a_connection_stops_early(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = Endpoint.complete, []

    def counting(self: Endpoint, *args: Any) -> Any:
        calls.append(1)
        return usual(self, *args)

    monkeypatch.setattr(Endpoint, "complete", counting)
    with pytest.raises(NanoEmoXError, match=r"3 calls failed in a row.*ConnectError.*--again"):
        evaluate_run(evaluating("openai:http://127.0.0.1:1/v1", data_root, tmp_path, batch=1))
    assert len(calls) == 3
    assert not (tmp_path / "metrics.json").exists()


def test_command_without_any_answer_exits_with_2(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(reply: Says, *more: str) -> tuple[object, str, str]:
        fake.reply = lambda _: reply
        args = ["evaluate", "--benchmarks", "meld", "--data-root", data_root, "--out", tmp_path / "run"]
        with pytest.raises(SystemExit) as done:
            main([*map(str, args), "--model", f"{fake.address}#m", "--modalities", "text", *more])
        said = capsys.readouterr()
        return done.value.code, said.out, said.err.splitlines()[-1] if said.err else ""

    with serve(lambda _: Says()) as fake:
        code, out, err = run(Says("too\nbad", status=400))
        assert code == 2
        assert "| majority | 5 | 0 |" in out
        assert "meld: the model answered no clip; the first reason: openai:" in err
        assert "status 400" in err
        assert "--again" in err
        code, out, _ = run(Says("too bad", status=400), "--json")
        assert code == 2
        assert len(json.loads(out)["benchmarks"]["meld"]["unanswered"]) == 5
        assert run(Says("joy"), "--again")[::2] == (0, "")


def test_order_sensitivity_needs_two_answers_per_clip(data_root: Path, tmp_path: Path) -> None:
    with serve(lambda _: Says("no", status=400)) as fake:
        metrics = evaluate_run(evaluating(fake.address, data_root, tmp_path / "run"))
    assert metrics is not None
    found = metrics["benchmarks"]["meld"]
    assert "order_sensitivity" not in [*found["headline"], *found["rows"]["other-order"]["metrics"]]


def test_remote_models_need_no_torch() -> None:
    code = "import sys, nanoemox.benchmarks.evaluate\nprint('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

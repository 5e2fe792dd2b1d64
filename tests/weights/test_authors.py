"""``nanoemox pull authors`` from a hub on loopback, end to end, with faults."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nanoemox import cli
from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.inference.engine import Engine
from nanoemox.tasks import LABEL_SETS
from nanoemox.tasks.templates import load_templates
from nanoemox.types import CheckpointError
from nanoemox.weights import home, hub, place
from nanoemox.weights.authors import AuthorsOptions, pull_authors
from nanoemox.weights.authors_catalogue import RELEASE, Release, RepoFile, Repository
from nanoemox.weights.convert_reference import HEAD
from nanoemox.weights.home import PulledModel
from tests.tiny import tiny_clip
from tests.weights.authors_files import CHECKPOINT, language_model, make_repositories, speech_model, vision_model
from tests.weights.fake_hub import FakeHub, FakeRepository, serving

YES = AuthorsOptions(accept_licence=True, dtype="float32")
NANO, QWEN, CLIP, HUBERT, FACE = (r.repo for r in RELEASE.repositories)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> tuple[dict[str, FakeRepository], Release]:
    return make_repositories(tmp_path_factory.mktemp("release"), shared)


@pytest.fixture
def served(
    made: tuple[dict[str, FakeRepository], Release], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    """The hub with all files; nothing else can be reached."""
    with serving(FakeHub(copy.deepcopy(made[0]))) as there:
        _use(there, tmp_path, monkeypatch)
        yield there


def _use(there: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", there.url)
    monkeypatch.setenv("NANOEMOX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)


@pytest.fixture
def release(made: tuple[dict[str, FakeRepository], Release]) -> Release:
    return made[1]


def state_of(folder: Path) -> dict[str, Tensor]:
    return {n: t for f in sorted(folder.glob("*.safetensors")) for n, t in load_file(f).items()}


def changed(repository: FakeRepository, change: dict[str, Any], key: str = "model", file: str = CHECKPOINT) -> None:
    """Rewrite a torch file with some tensors changed or (None) taken out."""
    loaded = torch.load(io.BytesIO(repository.files[file]), weights_only=True)
    state = {n: t for n, t in (loaded[key] | change).items() if t is not None}
    buffer = io.BytesIO()
    torch.save(loaded | {key: state}, buffer)
    repository.files[file] = buffer.getvalue()


# ---------------------------------------------------------------- the whole way


@dataclass
class Pulled:
    """A pulled model, the hub that served it, and what was told on the way."""

    model: PulledModel
    hub: FakeHub
    lines: list[str]
    steps: list[tuple[int, int]]

    def official(self) -> dict[str, Tensor]:
        return torch.load(io.BytesIO(self.hub.repositories[NANO].files[CHECKPOINT]), weights_only=True)["model"]


@pytest.fixture(scope="module")
def pulled(
    made: tuple[dict[str, FakeRepository], Release], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pulled]:
    """One pull that many tests look at; the user's token is at hand, and the model stays where it is found."""
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch, serving(FakeHub(copy.deepcopy(made[0]))) as there:
        _use(there, tmp_path_factory.mktemp("pulled"), patch)
        patch.setenv("HF_TOKEN", "hf_secret")
        model = pull_authors(YES, tell=lines.append, progress=lambda *at: steps.append(at), release=made[1])
        yield Pulled(model, there, lines, steps)


def test_pulled_model_equals_the_files(pulled: Pulled) -> None:
    state, official = state_of(pulled.model.folder), pulled.official()
    assert torch.equal(state["fusion.projection.bias"], official["multi_llama_proj.bias"])
    assert torch.equal(state["face_adapter.queries"], official["facial_encoder.query"])
    clip, hubert, qwen = vision_model().state_dict(), speech_model().state_dict(), language_model().state_dict()
    block = "layers.22.mlp.fc1.weight"
    assert torch.equal(state[f"vision_encoder.encoder.encoder.{block}"], clip[f"vision_model.encoder.{block}"])
    name = "encoder.layers.23.attention.k_proj.weight"
    assert torch.equal(state[f"speech_encoder.encoder.{name}"], hubert[name])
    layer = "model.layers.27.mlp.up_proj"
    a, b = (official[f"llama_model.base_model.model.{layer}.lora_{side}.default.weight"] for side in "AB")
    wanted = qwen[f"{layer}.weight"] + 32 / 4 * (b @ a)
    torch.testing.assert_close(state[f"language_model.{layer}.weight"], wanted)


def test_pull_reports_progress_and_leaves_no_temporary_files(pulled: Pulled) -> None:
    served = pulled.hub.repositories.values()
    total = sum(len(c) for r in served for n, c in r.files.items() if n != "README.md")
    assert pulled.steps[-1] == (total, total)
    before = pulled.lines.index(next(line for line in pulled.lines if line.startswith("fetching")))
    assert any(re.fullmatch(r"total +0\.\d\d GB", line) for line in pulled.lines[:before])
    assert not (home.home() / "downloads-authors").exists()
    assert {p.name for p in home.models_folder().iterdir()} == {"authors"}


def test_the_pulled_model_answers_the_same_every_time(pulled: Pulled) -> None:
    assert find_checkpoint("authors") == (str(pulled.model.folder), "authors", True)
    engine = Engine.from_pretrained("authors", device="cpu")
    answer = engine.answer(tiny_clip(), ("msa", "ovmer"))
    assert answer.modalities == ("vision", "speech", "face", "text")
    assert answer.warnings == ()
    assert engine.answer(tiny_clip(), ("msa", "ovmer")).tasks == answer.tasks


def test_report_lists_every_tensor(pulled: Pulled) -> None:
    report = json.loads((pulled.model.folder / "report.json").read_text("utf-8"))
    files, official = report["tensors"]["files"], pulled.official()
    told = [*files["adapters"]["used"], *(n for names in files["adapters"]["unused"].values() for n in names)]
    assert sorted(told) == sorted(official)
    assert len(official) == 592
    face = torch.load(io.BytesIO(pulled.hub.repositories[FACE].files["ckpts/model.pt"]), weights_only=True)
    told = [*files["face"]["used"], *(n for names in files["face"]["unused"].values() for n in names)]
    assert sorted(told) == sorted(face["state_dict_backbone"])
    assert len(files["face"]["used"]["backbone.0.1.0.attn.qkv.weight"]) == 3
    assert all(files[p]["used"] for p in ("text", "vision", "speech"))
    held = state_of(pulled.model.folder)
    named = {n for f in files.values() for news in f["used"].values() for n in news} | set(report["tensors"]["drawn"])
    assert named == set(held)
    assert sum(report["tensors"]["model"].values()) == len(held)


def test_report_lists_all_sources(pulled: Pulled) -> None:
    report = json.loads((pulled.model.folder / "report.json").read_text("utf-8"))
    first = report["repositories"][0]
    assert (first["repo"], first["asked"], first["commit"]) == (NANO, "main", "0" * 40)
    assert first["files"][0]["sha256"] in {p.sha256 for p in pulled.model.parts}
    assert report["words"].startswith("the package's own")
    assert NANO in (pulled.model.folder / "NOTICE").read_text("utf-8")


def test_only_listed_files_are_fetched_and_no_token_leaks(pulled: Pulled, release: Release) -> None:
    assert {path for path, _ in pulled.hub.asked} == {f.path for r in release.repositories for f in r.files}
    assert not pulled.hub.authorised


def test_authors_preset_processes_clips_like_the_authors(pulled: Pulled) -> None:
    config = json.loads((pulled.model.folder / "config.json").read_text("utf-8"))
    assert (config["face"]["crop"], config["face"]["normalise"]) == ("whole_frame", "none")
    assert (config["vision"]["frame_sampling"], config["vision"]["fit"]) == ("reference", "squash")
    assert (config["vision"]["last"], config["vision"]["taps"]) == (23, [12, 16, 22])
    speech = config["speech"]
    assert (speech["grid"], speech["normalise"], speech["remove_mean"]) == ("reference", "clip", True)
    assert load_templates(pulled.model.folder / "templates.yaml").prefix.startswith("<|im_start|>")


def test_pulled_authors_model_can_be_evaluated(
    pulled: Pulled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = LABEL_SETS["meld"]
    rows = [
        {"id": f"c{i}", "split": "test", "subtitle": f"word {i}", "corpus": "meld", "task": "mer",
         "labels": {"label": labels[i], "candidates": labels}}
        for i in range(3)
    ]  # fmt: skip
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "meld.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    command = ["evaluate", "--benchmarks", "meld", "--data-root", str(tmp_path), "--out", str(tmp_path / "run")]
    cli.app([*command, "--model", "authors", "--device", "cpu", "--json"], standalone_mode=False)
    out = capsys.readouterr().out
    found = json.loads(out[out.index("{") :])["benchmarks"]["meld"]["rows"]
    assert "authors" in next(iter(found))
    assert all(row["n"] == 3 and set(row["intervals"]) >= {"hit_rate"} for row in found.values())


def test_custom_templates_are_used_and_kept(served: FakeHub, release: Release, tmp_path: Path) -> None:
    own = load_templates(layout="reference").model_copy(update={"closing": " Now say."})
    words = own.save(tmp_path)
    folder = pull_authors(replace(YES, words=words), release=release).folder
    assert load_templates(folder / "templates.yaml") == own
    words.write_text("version: 1\n", "utf-8")
    with pytest.raises(CheckpointError, match="not a valid templates file"):
        pull_authors(replace(YES, words=words, force=True), release=release)


# ---------------------------------------------------------------- the command


def test_command_requires_licence_consent_before_fetching(
    served: FakeHub, release: Release, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nanoemox.weights.authors.RELEASE", release)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pull", "authors"])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert all(r.repo in told for r in release.repositories)
    assert "licence: mit" in told
    assert "licence: Apache-2.0" in told
    assert "--accept-licence" in told
    assert served.asked == []
    cli.app(["pull", "authors", "--accept-licence", "--json"], standalone_mode=False)
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert (found["name"], len(found["parts"])) == ("authors", 5)
    assert "100 % of" in out.err
    cli.app(["pull", "authors"], standalone_mode=False)
    assert "nothing is fetched" in capsys.readouterr().err
    dtypes = {t.dtype for t in state_of(home.models_folder() / "authors").values()}
    assert dtypes == {torch.float16}


def test_lock_file_reproduces_a_pull_and_refuses_changes(
    pulled: Pulled, served: FakeHub, release: Release, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.json"
    lock.write_bytes((pulled.model.folder / "report.json").read_bytes())
    locked = replace(YES, lock=lock)
    changed(served.repositories[NANO], {"multi_llama_proj.bias": torch.zeros(32)})
    with pytest.raises(CheckpointError, match=r"recorded is .*: another file, so not fetched"):
        pull_authors(locked, release=release)
    served.repositories[NANO].files = pulled.hub.repositories[NANO].files
    served.repositories[NANO].revisions = ()  # the branch has moved on, the commit is still there
    assert state_of(pull_authors(locked, release=release).folder).keys() == state_of(pulled.model.folder).keys()
    served.repositories[NANO].commit = "9" * 40
    with pytest.raises(CheckpointError, match="no such revision"):
        pull_authors(replace(locked, force=True), release=release)
    lock.write_text("{}")
    with pytest.raises(CheckpointError, match=r"not the report\.json of a pulled model"):
        pull_authors(replace(locked, force=True), release=release)


# ---------------------------------------------------------------- files that do not fit


@pytest.mark.parametrize(
    ("repo", "change", "says"),
    [
        (NANO, {"multi_llama_proj.bias": None}, r"missing \['fusion.projection.bias'\]"),
        (NANO, {"mystery.weight": torch.zeros(2)}, r"no known name: \['mystery.weight'\]"),
        (NANO, {HEAD: torch.zeros(448, 32)}, "another language model"),
        (FACE, {"linear_fuse.weight": None}, r"missing \['face_encoder.fuse.weight'\]"),
        (HUBERT, {"encoder.layers.23.layer_norm.bias": None}, "missing .*layers.23.layer_norm.bias"),
    ],
    ids=["missing", "unknown", "another model", "face", "speech"],
)
def test_a_tensor_that_is_missing_or_unknown_is_an_error(
    served: FakeHub, release: Release, repo: str, change: dict[str, Any], says: str
) -> None:
    there = served.repositories[repo]
    if repo == HUBERT:
        state = torch.load(io.BytesIO(there.files["pytorch_model.bin"]), weights_only=True)
        buffer = io.BytesIO()
        torch.save({n: t for n, t in state.items() if n not in change}, buffer)
        there.files["pytorch_model.bin"] = buffer.getvalue()
    else:
        changed(there, change, *(("state_dict_backbone", "ckpts/model.pt") if repo == FACE else ()))
    with pytest.raises(CheckpointError, match=says):
        pull_authors(YES, release=release)
    assert home.pulled_models() == []
    assert (home.home() / "downloads-authors").exists()
    assert place.remove_pulled("authors") > 1000
    assert not (home.home() / "downloads-authors").exists()


def test_a_file_of_an_earlier_phase_is_refused(served: FakeHub, release: Release) -> None:
    names = torch.load(io.BytesIO(served.repositories[NANO].files[CHECKPOINT]), weights_only=True)["model"]
    changed(served.repositories[NANO], {n: None for n in names if ".lora_" in n})
    with pytest.raises(CheckpointError, match="lacks LoRA: it is no file of phase 3"):
        pull_authors(YES, release=release)
    changed(served.repositories[NANO], {n: None for n in names if n.startswith(("multi_llama", "multi_multiscale"))})
    with pytest.raises(CheckpointError, match="lacks the adapters of fusion, LoRA"):
        pull_authors(YES, release=release)


def test_pickle_with_code_is_not_loaded(served: FakeHub, release: Release) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict_backbone": Path("x")}, buffer)
    served.repositories[FACE].files["ckpts/model.pt"] = buffer.getvalue()
    with pytest.raises(CheckpointError, match="not a file of plain tensors, so it is not loaded"):
        pull_authors(YES, release=release)


def test_speech_encoder_with_other_preprocessing_is_refused(served: FakeHub, release: Release) -> None:
    served.repositories[HUBERT].files["preprocessor_config.json"] = b'{"do_normalize": false, "sampling_rate": 16000}'
    with pytest.raises(CheckpointError, match="must normalise a waveform of 16000 Hz"):
        pull_authors(YES, release=release)


def test_too_little_space_and_a_wrong_type(served: FakeHub, release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoemox.weights.place.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(CheckpointError, match="free, a pull needs"):
        pull_authors(YES, release=release)
    with pytest.raises(CheckpointError, match="'float8' is unknown"):
        pull_authors(replace(YES, dtype="float8"), release=release)
    assert served.asked == []


def test_catalogue_is_complete() -> None:
    assert [r.part for r in RELEASE.repositories] == ["adapters", "text", "vision", "speech", "face"]
    for repository in RELEASE.repositories:
        assert repository.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", repository.revision)
        for file in repository.files:
            assert (file.size_bytes or 1) <= file.most_bytes
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)


# ---------------------------------------------------------------- the hub


CONTENT = bytes(range(256)) * 4000
ONE = Repository("adapters", "owner/name", "main", "MIT", (RepoFile("w.pth", 2_000_000), RepoFile("config.json")))
COMMIT = "c" * 40


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one repository of two files."""
    files = {"w.pth": CONTENT, "config.json": b'{"a": 1}'}
    with serving(FakeHub({"owner/name": FakeRepository(files, COMMIT)})) as there:
        _use(there, tmp_path, monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
        yield there


def quiet(line: str) -> None:
    pass


def bring(tmp_path: Path, lines: list[str] | None = None, moved: list[int] | None = None) -> list[Path]:
    told = lines if lines is not None else []
    found = hub.look_up(ONE, told.append)
    counts = moved if moved is not None else []
    return [hub.fetch(found, f, tmp_path / "files", counts.append, told.append) for f in found.files]


def test_broken_download_resumes(small: FakeHub, tmp_path: Path) -> None:
    small.cuts["w.pth"] = [300_000, 300_000]
    moved: list[int] = []
    paths = bring(tmp_path, moved=moved)
    assert [p.read_bytes() for p in paths] == [CONTENT, b'{"a": 1}']
    assert small.gets("w.pth")[0] is None
    assert [r for r in small.gets("w.pth")[1:] if r] == ["bytes=300000-", "bytes=600000-"]
    assert sum(moved) == len(CONTENT) + 8


def test_killed_pull_resumes_in_the_next_process(small: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "w.pth.part").write_bytes(CONTENT[:700_000])
    moved: list[int] = []
    assert bring(tmp_path, moved=moved)[0].read_bytes() == CONTENT
    assert small.gets("w.pth") == ["bytes=700000-"]
    assert sum(moved) == len(CONTENT) + 8
    assert bring(tmp_path)[0].read_bytes() == CONTENT
    assert len(small.gets("w.pth")) == 1, "what is here and right is not fetched again"


def test_a_server_without_ranges_starts_over(small: FakeHub, tmp_path: Path) -> None:
    small.ranges = False
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "w.pth.part").write_bytes(b"x" * 700_000)
    moved: list[int] = []
    assert bring(tmp_path, moved=moved)[0].read_bytes() == CONTENT
    assert sum(moved) == len(CONTENT) + 8


def test_busy_hub_is_retried_then_given_up(small: FakeHub, tmp_path: Path) -> None:
    small.statuses = {"api": [429, 503], "w.pth": [429]}
    lines: list[str] = []
    assert bring(tmp_path, lines)[0].read_bytes() == CONTENT
    assert any("answers 429; waiting 0 s" in line for line in lines)
    small.statuses = {"api": [429] * 10}
    with pytest.raises(CheckpointError, match="the hub answers 429"):
        bring(tmp_path)


def test_corrupt_downloads_are_refused_and_the_next_pull_is_clean(small: FakeHub, tmp_path: Path) -> None:
    for wrong in (CONTENT[:-1000], CONTENT * 3):
        small.served["w.pth"] = wrong
        with pytest.raises(
            CheckpointError, match=r"more or fewer bytes than the [\d,]+ that it states, so they are del"
        ):
            bring(tmp_path)
        assert sum(f.stat().st_size for f in tmp_path.rglob("w.pth*")) == 0
    small.served["w.pth"] = CONTENT[:-1] + b"!"
    with pytest.raises(CheckpointError, match=rf"the download differs from commit {COMMIT}.*deleted"):
        bring(tmp_path)
    small.served = {"config.json": b'{"a": 2}'}
    with pytest.raises(CheckpointError, match=r"config\.json: the download differs"):
        bring(tmp_path)
    small.served = {}
    assert bring(tmp_path)[0].read_bytes() == CONTENT


def test_a_recorded_hash_holds_where_the_hub_states_none(small: FakeHub, tmp_path: Path) -> None:
    file = replace(ONE.files[0], sha256=hashlib.sha256(CONTENT).hexdigest())
    recorded = replace(ONE, files=(file,))
    small.claims["w.pth"] = {"lfs": None}
    found = hub.look_up(recorded, print)
    assert hub.fetch(found, found.files[0], tmp_path / "good", print, print).read_bytes() == CONTENT
    other = CONTENT[:-1] + b"!"
    small.repositories[ONE.repo].files["w.pth"] = other
    found = hub.look_up(recorded, print)
    with pytest.raises(CheckpointError, match="its hash differs"):
        hub.fetch(found, found.files[0], tmp_path / "bad", print, print)


def test_oversized_partial_file_is_discarded(small: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    part = tmp_path / "files" / "w.pth.part"
    part.write_bytes(CONTENT + b"more")
    assert bring(tmp_path)[0].read_bytes() == CONTENT
    (tmp_path / "files" / "w.pth").unlink()
    part.write_bytes(CONTENT[:900_000])
    small.served["w.pth"] = CONTENT[:800_000]
    with pytest.raises(CheckpointError, match="the hub answers 416"):
        bring(tmp_path)
    assert not part.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"repo": "owner/other"}, "no such repository"),
        ({"revision": "v2"}, "no such revision"),
        ({"revision": "d" * 40}, "no such revision"),
        ({"files": (RepoFile("absent.bin"),)}, rf"has no absent\.bin at commit {COMMIT}"),
        ({"files": (RepoFile("w.pth", 1000),)}, "1,024,000 bytes, limit 1,000"),
        ({"files": (RepoFile("w.pth", 2_000_000, 5),)}, "recorded is {'bytes': 5}: another file"),
        ({"files": (RepoFile("w.pth", 2_000_000, None, "0" * 64),)}, "recorded is {'SHA-256': '0000"),
    ],
)
def test_hub_mismatches_are_reported_before_fetching(small: FakeHub, change: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        hub.look_up(replace(ONE, **change), quiet)
    assert small.asked == []


def test_hub_with_another_commit_or_without_hashes_is_refused(small: FakeHub) -> None:
    small.answer_commit = "e" * 40
    with pytest.raises(CheckpointError, match="not the requested one"):
        hub.look_up(replace(ONE, revision=COMMIT), quiet)
    small.answer_commit = None
    small.claims["config.json"] = {"blobId": None}
    with pytest.raises(CheckpointError, match="states no hash"):
        hub.look_up(ONE, quiet)


def test_missing_network_gives_one_line(small: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"cannot be fetched from http://127\.0\.0\.1:9: .*Check the network"):
        hub.look_up(ONE, quiet)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        hub.look_up(ONE, quiet)

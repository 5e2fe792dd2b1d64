"""Readers of the authors' result files and tables, with valid and invalid files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nanoemox.benchmarks.official_files import read_predictions, read_wheel_tables
from nanoemox.types import NanoEmoXError


def test_words_sentiment_and_text(tmp_path: Path) -> None:
    names = np.array(["a", "b"])
    np.savez_compressed(tmp_path / "x-openset.npz", filenames=names, fileitems=np.array(["[sad, 'a_b']", "[]"]))
    np.savez_compressed(tmp_path / "x-openset-sentiment.npz", filenames=names, fileitems=np.array(["positive", "odd"]))
    np.savez_compressed(tmp_path / "x.npz", name2reason=np.array({"a": "She is sad.", "b": None}, dtype=object))
    words = read_predictions(tmp_path / "x-openset.npz")
    assert (words.kind, dict(words.words), words.names) == ("words", {"a": ("sad", "a_b"), "b": ()}, ("a", "b"))
    sentiment = read_predictions(tmp_path / "x-openset-sentiment.npz")
    assert (sentiment.kind, dict(sentiment.texts)) == ("sentiment", {"a": "positive", "b": "odd"})
    with pytest.raises(NanoEmoXError, match="can run any code when opened: name --trust-npz"):
        read_predictions(tmp_path / "x.npz")
    text = read_predictions(tmp_path / "x.npz", trust_npz=True)
    assert (text.kind, dict(text.texts)) == ("text", {"a": "She is sad.", "b": ""})


def test_tables(tmp_path: Path) -> None:
    (tmp_path / "ov.csv").write_text("name,openset\na,\"['sad', 'cross']\"\n", "utf-8")
    (tmp_path / "emer.csv").write_text('names,pred_label,chi_reasons\na,,"Two\nlines, quoted"\n', "utf-8")
    assert read_predictions(tmp_path / "ov.csv").words == {"a": ("sad", "cross")}
    (tmp_path / "sheet.csv").write_text("name,openset\n a ,['sad']\n,\n , \n", "utf-8")
    assert read_predictions(tmp_path / "sheet.csv").words == {"a": ("sad",)}
    assert read_predictions(tmp_path / "emer.csv").texts == {"a": "Two\nlines, quoted"}


def test_objects(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"a": ["sad"], "b": []}', "utf-8")
    (tmp_path / "texts.json").write_text('{"a": "Sad.", "b": null}', "utf-8")
    (tmp_path / "none.json").write_text("[1]", "utf-8")
    assert read_predictions(tmp_path / "words.json").words == {"a": ("sad",), "b": ()}
    assert read_predictions(tmp_path / "texts.json").texts == {"a": "Sad."}
    with pytest.raises(NanoEmoXError, match="not an object of clips"):
        read_predictions(tmp_path / "none.json")
    (tmp_path / "words.json").write_text('{"a": ["sad", "not happy"], "b": null}', "utf-8")
    assert read_predictions(tmp_path / "words.json").words == {"a": ("sad", "not happy")}
    (tmp_path / "objects.json").write_text('{"a": {"label": "sad"}}', "utf-8")
    with pytest.raises(NanoEmoXError, match=r"objects\.json: .* either texts or lists of words"):
        read_predictions(tmp_path / "objects.json")


def test_real_files_of_every_kind(shared: Path) -> None:
    folder = shared / "data" / "predictions"
    kinds = {}
    for path in sorted(folder.rglob("*.npz"))[::13]:
        found = read_predictions(path, trust_npz=True)
        kinds[found.kind] = kinds.get(found.kind, 0) + 1
        assert len(found.names) > 300
    assert set(kinds) == {"words", "sentiment", "text"}
    for path in (folder / "nano_emox_repo").rglob("*.csv"):
        found = read_predictions(path)
        assert (found.kind, len(found.names)) == ("text", 100)


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("sprung"),))  # type: ignore[return-value]


def test_untrusted_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        with archive.open("name2reason.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(pickle.dumps(Trap()))
    with pytest.raises(NanoEmoXError, match="--trust-npz"):
        read_predictions(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", b"no archive", "not a file of numpy arrays|pickled objects"),
        ("x.npz", b"", "not a file of numpy arrays"),
        ("x.txt", b"", "not a result file"),
        ("x.csv", b"", "needs a column name"),
        ("x.csv", b"name,mood\na,b\n", "needs a column name and one of openset"),
        ("x.csv", b"name,openset\n\xff,b\n", "not UTF-8"),
        ("x.csv", b"name,openset\na,[b]\n ,[c]\n", "row 3 has no name"),
        ("x.csv", b"name,openset\na,[b]\na ,[c]\n", "row 3: name 'a' occurs twice"),
        ("absent.npz", None, "No such file"),
        ("absent.csv", None, "No such file"),
    ],
)
def test_hostile_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(NanoEmoXError, match=message):
        read_predictions(tmp_path / name)


def test_arrays_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", filenames=np.array(["a"]), fileitems=np.array(["[x]", "[y]"]))
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    np.savez(tmp_path / "c.npz", name2reason=np.zeros(3))
    for name, message in (("a", "one length"), ("b", "not a result file"), ("c", "not a dictionary")):
        with pytest.raises(NanoEmoXError, match=message):
            read_predictions(tmp_path / f"{name}.npz")


def test_wheel_tables_missing_or_damaged(tmp_path: Path, shared: Path) -> None:
    with pytest.raises(NanoEmoXError, match=r"holds no wheel1\.xlsx"):
        read_wheel_tables(tmp_path)
    source = shared / "data" / "emotion_wheel"
    (tmp_path / "wheel1.xlsx").write_bytes((source / "wheel1.xlsx").read_bytes())
    with pytest.raises(NanoEmoXError, match=r"synonym\.xlsx"):
        read_wheel_tables(tmp_path)
    for name in ("synonym.xlsx", "format.csv"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    assert len(read_wheel_tables(tmp_path).wheels) == 1
    content = (source / "wheel1.xlsx").read_bytes()
    for damaged in (content[: len(content) // 2], content[:60] + b"\0" * (len(content) - 2060) + content[-2000:]):
        (tmp_path / "wheel1.xlsx").write_bytes(damaged)
        with pytest.raises(NanoEmoXError, match=r"wheel1\.xlsx|damaged"):
            read_wheel_tables(tmp_path)
    (tmp_path / "wheel1.xlsx").write_bytes((source / "synonym.xlsx").read_bytes())
    with pytest.raises(NanoEmoXError, match="a wheel has level1"):
        read_wheel_tables(tmp_path)

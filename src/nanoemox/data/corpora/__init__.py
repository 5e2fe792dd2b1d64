"""Readers of corpora: a released folder in, samples out. One file a corpus or family, one ``read`` each.

A reader exists for every corpus of the paper, but no data: users bring what they may use. Media paths of the samples
are relative to the folder that was read. Official splits are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from nanoemox.data.corpora import composed, esconv, facial_expressions, goemotions, mintrec, mustard, ravdess
from nanoemox.data.manifest import Sample, read_manifest
from nanoemox.types import NanoEmoXError, RecipeError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus that can be read.

    Attributes:
        reader: From the released folder to samples; takes ``trust_npz`` where ``pickled``.
        licence: What its makers allow, in a few words.
        get: What to download, from where.
        files: Files that are read, relative to the folder.
        folder: Where the released folder lies in a data root of several corpora; by default under the corpus' name.
        pickled: Whether one of its layouts is a pickled ``.npz``.
    """

    reader: Callable[..., list[Sample]]
    licence: str
    get: str
    files: str
    folder: str | None = None
    pickled: bool = False

    def read(self, root: Path, *, trust_npz: bool = False) -> list[Sample]:
        """Read the released folder.

        Args:
            root: The folder; media paths of the samples are relative to it.
            trust_npz: Open pickled ``.npz`` files, which can run any code.

        Raises:
            RecipeError: A file is missing or not as released; the message says what to download.
        """
        if not root.is_dir():
            raise RecipeError(f"{root}: no such folder; download {self.get}")
        try:
            return self.reader(root, trust_npz=trust_npz) if self.pickled else self.reader(root)
        except FileNotFoundError as error:
            raise RecipeError(f"{error.filename} is missing; download {self.get}; files read: {self.files}") from error
        except NanoEmoXError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            found = f"{type(error).__name__}: {error}"
            raise RecipeError(f"{root}: not laid out as released ({found}); files read: {self.files}") from error


READERS: Final[Mapping[str, Corpus]] = MappingProxyType(
    {
        "mintrec": Corpus(
            mintrec.read,
            "research only",
            "MIntRec from github.com/thuiar/MIntRec",
            "train.tsv, dev.tsv, test.tsv; or train_MIntRec_ann.json, test_MIntRec_ann.json, "
            "MIntRec_dev_intent_llamafactory.json",
            folder="annotations",
        ),
        "mintrec2": Corpus(
            mintrec.read_second,
            "CC BY-NC-SA 4.0",
            "MIntRec2.0 from github.com/thuiar/MIntRec2.0",
            "in-scope_data/{train,dev,test}.tsv; or train_MIntRec2_ann.json, test_MIntRec2_ann.json, "
            "MIntRec2.0_dev_intent_llamafactory.json, mmla/swift/MIntRec2.0/test.jsonl",
            folder="annotations",
        ),
        "ravdess": Corpus(
            ravdess.read,
            "CC BY-NC-SA 4.0",
            "RAVDESS speech from zenodo.org/record/1188976",
            "any folders of 03-01-*.wav or 01-01-*.mp4",
            folder=str(ravdess.SPEECH),
        ),
        "goemotions": Corpus(
            goemotions.read,
            "CC BY 4.0",
            "GoEmotions from github.com/google-research/google-research/tree/master/goemotions",
            "emotions.txt or labels.txt, train.tsv, dev.tsv, test.tsv",
            folder=str(goemotions.FOLDER),
        ),
        "esconv": Corpus(
            esconv.read,
            "CC BY-NC 4.0",
            "ESConv from github.com/thu-coai/Emotional-Support-Conversation",
            "{train,dev,test}WithStrategy_short.tsv, FailedESConv.json",
            folder=str(esconv.FOLDER),
        ),
        "mustard": Corpus(
            mustard.read,
            "MIT",
            "MUStARD from github.com/soujanyaporia/MUStARD",
            "sarcasm_data.json, utterances_final/*.mp4",
            folder="annotations/mustard",
        ),
        "facial_expressions": Corpus(
            facial_expressions.read,
            "Apache-2.0; rights in the pictures unclear",
            "github.com/muxspace/facial_expressions",
            "legend.csv, images/",
            folder=str(facial_expressions.FOLDER),
        ),
        "ravdess_av": Corpus(
            ravdess.read_audiovisual,
            "CC BY-NC-SA 4.0",
            "nothing: the clips that the embedded model is made of are not published",
            f"{ravdess.AUDIOVISUAL}/labels.csv, {ravdess.SPEECH}/",
            folder="",
        ),
        "composed": Corpus(
            composed.read,
            "CC BY-NC-SA 4.0 and those of its sources",
            "ravdess, facial_expressions, goemotions and esconv into one data root",
            "what those corpora need",
            folder="",
        ),
    }
)


def read_corpora(
    data_root: Path, names: Iterable[str], *, merge_validation: Collection[str] = (), trust_npz: bool = False
) -> dict[str, list[Sample]]:
    """Read corpora by name; a manifest of that name under the data root comes before the package's own reader.

    Args:
        data_root: Folder of ``manifests`` and of released corpora.
        names: The corpora.
        merge_validation: Corpora whose validation part trains too, as the authors did with MIntRec's.
        trust_npz: Open pickled ``.npz`` files.

    Returns:
        Corpus -> samples of every split. A corpus none of whose media is there is read as its words alone.

    Raises:
        RecipeError: There is neither manifest nor reader, or the data are not there.
    """
    out = {}
    for name in dict.fromkeys(names):
        manifest = data_root / "manifests" / f"{name}.jsonl"
        if manifest.is_file():
            samples = read_manifest(manifest)
        elif name in READERS:
            samples = _read(name, data_root, trust_npz=trust_npz)
        else:
            raise RecipeError(
                f"corpus {name}: no manifest {manifest} and no reader; readers: {', '.join(READERS)}; "
                "write the manifest (docs: data)"
            )
        merged = name in merge_validation
        out[name] = [_trained(s) if merged and s.split == "validation" else s for s in samples]
    return out


def _read(name: str, data_root: Path, *, trust_npz: bool) -> list[Sample]:
    corpus = READERS[name]
    folder = name if corpus.folder is None else corpus.folder
    try:
        samples = corpus.read(data_root / folder, trust_npz=trust_npz)
    except RecipeError as error:
        raise RecipeError(f"corpus {name}: {error}; is --data-root right?") from error
    files = {file for s in samples for file in (s.media, s.audio) if file}
    if files and not any((data_root / folder / file).is_file() for file in files):
        logger.warning("corpus %s: none of %d media files is there: its words alone are used", name, len(files))
        bare = {"media": None, "audio": None}
        return [s.model_copy(update=bare) for s in samples if s.subtitle or s.history]
    return [_under(s, folder) for s in samples] if folder else samples


def _under(sample: Sample, folder: str) -> Sample:
    """Make the media paths of a sample relative to the data root."""
    paths = {"media": sample.media, "audio": sample.audio}
    return sample.model_copy(update={field: f"{folder}/{path}" for field, path in paths.items() if path})


def _trained(sample: Sample) -> Sample:
    return sample.model_copy(update={"split": "train"})

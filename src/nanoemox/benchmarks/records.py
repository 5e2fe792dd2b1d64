"""The benchmarks: clips, task, labels and metrics of each.

The first nine are MER-UniBench (Lian et al., AffectGPT, ICML 2025). A record contains everything that a score depends
on; raise its ``version`` with every change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from nanoemox.data.manifest import Split
from nanoemox.tasks import ERG, ERI, LABEL_SETS, MER, MIR, MSA, OVMER, TASKS
from nanoemox.tasks.task import Form
from nanoemox.types import NanoEmoXError

HIT_RATE: Final = ("hit_rate", "precision", "labels_per_answer")
SETS: Final = ("f1", "precision", "recall", "labels_per_answer")
SENTIMENT: Final = ("weighted_f1", "accuracy", "unweighted_average_recall")
INTENT: Final = ("accuracy", "weighted_f1", "weighted_precision", "macro_f1", "unweighted_average_recall")
REASONS: Final = ("clue_overlap", "label_overlap", *SETS)
"""The first two come from a judge; the others are computed from the emotion words of the explanation."""
WORD_TASKS: Final = (MER.key, OVMER.key, MSA.key)
"""Tasks whose written answers are read as emotion words, as in MER-UniBench."""
REPLIES: Final = ("accuracy", "hit_rate", "distinct_1", "distinct_2")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        id: Name in options, files and tables.
        title: Display name.
        task: Task key, one of ``nanoemox.tasks.TASKS``.
        corpus: Name of the reader or prepared folder that provides the clips.
        metrics: Metrics in order of importance; the first is the headline.
        labels: Ordered candidates of a closed task; of ``erg`` the emotions of the corpus.
        num_samples: Number of clips of the split, None if not published.
        published_name: The authors' name of the set, in folder and file names.
        list_file: Label file that restricts the clips, if the test set is not the corpus' own split.
        version: Version of this record.
        split: Evaluated split of the corpus.
        note: Caveat that is shown with the scores, or None.
        speaker_pattern: Regular expression whose groups are the speaker in the name of a clip.
        recording: What clips are cut from: ``dialogue``, ``video`` or ``episode``.
        recording_pattern: Regular expression that matches it in the name of a clip.
    """

    id: str
    title: str
    task: str
    corpus: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    num_samples: int | None
    published_name: str
    list_file: str | None = None
    version: int = 1
    split: Split = "test"
    note: str | None = None
    speaker_pattern: str | None = None
    recording: str = "dialogue"
    recording_pattern: str | None = None

    @property
    def form(self) -> Form:
        """What an answer to its task is."""
        return TASKS[self.task].form

    @property
    def question(self) -> str:
        """Task of the question; the wording is the model's (``templates.yaml``)."""
        return self.task

    @property
    def published_question(self) -> str:
        """Task of the question in the published protocol: open vocabulary for all of MER-UniBench."""
        return OVMER.key if self.id in GROUPS["mer-unibench"] else self.task

    @property
    def identifier(self) -> str:
        """The tag that starts the question."""
        return TASKS[self.question].identifier


_DIALOGUE: Final = r"dia\w+?(?=_?utt)"
_VIDEO: Final = r"^(.+)_\d+$"
_EPISODE: Final = r"^S\d+_E\d+"


def _emotion(key: str, title: str, num_samples: int, published_name: str, **fields: str) -> Benchmark:
    return Benchmark(key, title, MER.key, key, HIT_RATE, LABEL_SETS[key], num_samples, published_name, **fields)  # type: ignore[arg-type]


def _sentiment(key: str, title: str, num_samples: int, published_name: str) -> Benchmark:
    return Benchmark(
        key, title, MSA.key, key, SENTIMENT, LABEL_SETS["sentiment"], num_samples, published_name,
        recording="video", recording_pattern=_VIDEO,
    )  # fmt: skip


BENCHMARKS: Final[dict[str, Benchmark]] = (
    {
        record.id: record
        for record in (
            _emotion("mer2023", "MER2023", 411, "mer2023"),
            _emotion("mer2024", "MER2024", 1169, "mer2024"),
            _emotion("meld", "MELD", 2610, "meld", recording_pattern=_DIALOGUE),
            _emotion(
                "iemocap", "IEMOCAP", 1241, "iemocapfour", speaker_pattern=r"^(Ses\d\d).*_([FM])\d+$",
                recording_pattern=r"^(Ses\d\d.*)_[FM]\d+$",
            ),
            _sentiment("cmu_mosi", "CMU-MOSI", 686, "cmumosi"),
            _sentiment("cmu_mosei", "CMU-MOSEI", 4659, "cmumosei"),
            _sentiment("ch_sims", "CH-SIMS", 457, "sims"),
            _sentiment("ch_sims_v2", "CH-SIMS v2", 1034, "simsv2"),
            # Published numbers use more clips (``published.OTHER_CLIPS``); these are the released ones.
            Benchmark("ov_merd", "OV-MERD", OVMER.key, "ov_merd", SETS, (), 332, "ovmerdplus"),
            Benchmark("emer", "EMER", ERI.key, "emer", REASONS, (), 100, "emer"),
            Benchmark(
                "mintrec", "MIntRec", MIR.key, "mintrec", INTENT, LABEL_SETS["mintrec"], 445, "mintrec",
                recording="episode", recording_pattern=_EPISODE,
            ),
            Benchmark(
                "mintrec2", "MIntRec2.0", MIR.key, "mintrec2", INTENT, LABEL_SETS["mintrec2"], 2033, "mintrec2",
                recording_pattern=_DIALOGUE,
            ),
            Benchmark(
                "mintrec2_paper", "MIntRec2.0, the paper's subset", MIR.key, "mintrec2", INTENT, LABEL_SETS["mintrec2"],
                1044, "mintrec2", list_file="test_MIntRec2_ann.json", recording_pattern=_DIALOGUE,
            ),
            Benchmark(
                "avamerg", "AvaMERG", ERG.key, "avamerg", REPLIES, LABEL_SETS["avamerg"], None, "avamerg",
                recording_pattern=_DIALOGUE,
            ),
            # There is no official split; actors 21 to 24, our test split, are not always available.
            Benchmark(
                "ravdess", "RAVDESS, actors 17-20", MER.key, "ravdess", HIT_RATE, LABEL_SETS["ravdess"], 240, "ravdess",
                split="validation", note="none of these actors trained the shipped model, but it was chosen on them",
                speaker_pattern=r"^\d\d(?:-\d\d){5}-(\d\d)$",
            ),
        )
    }
)  # fmt: skip
"""Id -> benchmark; a line added here adds one."""
GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "mer-unibench": tuple(BENCHMARKS)[:9],
        "intent": ("mintrec", "mintrec2", "mintrec2_paper"),
        "all": tuple(BENCHMARKS),
    }
)


def get_benchmark(key: str) -> Benchmark:
    """Return a benchmark by its id.

    Raises:
        NanoEmoXError: There is none; the message lists them.
    """
    try:
        return BENCHMARKS[key]
    except KeyError:
        raise NanoEmoXError(f"unknown benchmark {key!r}; there are {', '.join(BENCHMARKS)}") from None


def expand(keys: Iterable[str]) -> tuple[Benchmark, ...]:
    """Return the benchmarks of ids and groups, each once."""
    found: dict[str, Benchmark] = {}
    for key in keys:
        found |= {name: get_benchmark(name) for name in GROUPS.get(key, (key,))}
    return tuple(found.values())


def guess(path: str) -> Benchmark | None:
    """Return the benchmark named in the path of a result file (``.../results-meld/...``), or None."""
    names = {b.published_name: b for b in reversed(tuple(BENCHMARKS.values()))} | {b.id: b for b in BENCHMARKS.values()}
    parts = path.replace("\\", "/").lower().split("/")
    return next((names[p] for part in reversed(parts) if (p := part.removeprefix("results-")) in names), None)

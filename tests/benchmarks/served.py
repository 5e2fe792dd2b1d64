"""Samples and a fake served model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nanoemox
from nanoemox.benchmarks.predict import EvalSet
from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.remote import RemoteAnswerer, RemoteOptions
from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample
from nanoemox.judging.endpoint import CallOptions, Endpoint, parse_address
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import Think, Turn
from tests.judging.fake_endpoint import FakeEndpoint, Says, serve

MELD, AVAMERG = get_benchmark("meld"), get_benchmark("avamerg")
TALK = Path(nanoemox.__file__).parent / "assets" / "sample.mp4"
QUICK = CallOptions(attempts=2, first_wait_s=0.001, timeout_s=5)


def sample(name: str, split: str = "test", label: str = "joy", **fields: Any) -> Sample:
    labels = ClosedLabels(label=label, candidates=LABEL_SETS["meld"])
    return Sample(
        **{"id": name, "corpus": "meld", "split": split, "task": "mer", "labels": labels, "subtitle": f"I am {name}."}
        | fields
    )


def numbered(i: int, split: str = "test", label: str = "joy") -> Sample:
    return sample(f"c{i}", split, label, subtitle="words")


def reply(name: str, split: str, emotion: str, said: str) -> Sample:
    think = Think(scenario="s", emotion=emotion, cause="c", goal="g")
    labels = ReplyLabels(think=think, reply=f"reply to {name}")
    before = (Turn(role="speaker", text="Hi."), Turn(role="listener", text="Hello."))
    return Sample(id=name, corpus="avamerg", split=split, task="erg", labels=labels, subtitle=said, history=before)


@contextmanager
def asking(
    tmp_path: Path, says: Callable[[dict[str, Any]], Says], corpus: list[Sample], **options: Any
) -> Iterator[tuple[RemoteAnswerer, FakeEndpoint]]:
    benchmark = get_benchmark(corpus[0].corpus)
    asked = EvalSet(benchmark, [s for s in corpus if s.split == "test"], corpus)
    with serve(says) as fake:
        endpoint = Endpoint(parse_address(f"{fake.address}#m"), tmp_path / "cache", QUICK)
        try:
            yield RemoteAnswerer(endpoint, tmp_path, [asked], RemoteOptions(call=QUICK, **options)), fake
        finally:
            endpoint.close()


def parts(request: dict[str, Any], kind: str) -> list[Any]:
    content = request["messages"][-1]["content"]
    return [] if isinstance(content, str) else [part[kind] for part in content if part["type"] == kind]


def said(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else parts(request, "text")[0]

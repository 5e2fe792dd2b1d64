"""Commands about corpora: ``prepare``, ``check``, ``features``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import JsonOption, MediaRootOption, ModelOption, TrustOption, app, print_json, print_text


@app.command(epilog="Example:  nanoemox prepare crema_d data/CREMA-D --out data/manifests/crema_d")
def prepare(
    corpus: Annotated[str, typer.Argument(help="Name of a corpus; --list shows them.")] = "",
    root: Annotated[Path | None, typer.Argument(help="Folder that the corpus was unpacked in.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the manifests and the summary.")] = None,
    trust_npz: TrustOption = False,
    face_vectors: Annotated[
        Path | None, typer.Option(help="Folder in ROOT of OpenFace tables (.csv) or .npy, called as the clips are.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the corpora with their licences.")] = False,
    json: JsonOption = False,
) -> None:
    """Turn a corpus as released, or your own clips and a table, into manifests."""
    from nanoemox.data.prepare import format_corpora, format_summary, list_corpora
    from nanoemox.data.prepare import prepare as write_manifests

    if show_list:
        print_json(list_corpora(), 1) if json else print_text(format_corpora())
        return
    if not corpus or root is None or out is None:
        raise typer.BadParameter("give a corpus, its folder and --out FOLDER; --list shows the corpora")
    summary = write_manifests(corpus, root, out, trust_npz=trust_npz, face_vectors=face_vectors)
    print_json(summary, 1) if json else print_text(format_summary(summary, out))


@app.command(epilog="Example:  nanoemox check manifests/calls --against manifests/meld/test.jsonl")
def check(
    source: Annotated[str, typer.Argument(metavar="MANIFEST|CORPUS", help="Manifest, prepared folder, or corpus.")],
    root: Annotated[Path | None, typer.Argument(help="With a corpus: the folder that it was unpacked in.")] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Manifest, prepared folder, or annotation file (JSON, CSV) to find leaks into."),
    ] = None,
    data_root: MediaRootOption = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that open the files; 0: threads.")] = 0,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Open every file.")] = True,
    trust_npz: TrustOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print every finding as JSON.")] = False,
) -> None:
    """Find what breaks or spoils training: bad clips, leaks, misspelt labels. Exit code 2 if there are errors."""
    from nanoemox.cli.render import checking, show_report
    from nanoemox.data.doctor.check import CheckOptions
    from nanoemox.data.doctor.check import check as examine

    with checking(show=not json) as done:
        options = CheckOptions(tuple(against or ()), data_root, workers, media, trust_npz, done)
        report = examine(source, root, options)
    if json:
        print_json(report.to_dict(), 1)
    else:
        show_report(report)
    raise typer.Exit(0 if report.sound else 2)


@app.command(epilog="Example:  nanoemox features manifests/meld --model base --out cache --workers 8")
def features(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Manifests, or folders that prepare wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the cache, for train --features.")],
    model: ModelOption = None,
    data_root: MediaRootOption = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Decoding processes; default: the cores.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips encoded at once.")] = 16,
    dtype: Annotated[str, typer.Option(help="float16 or float32, as cache_dtype of the recipe.")] = "float16",
    json: JsonOption = False,
) -> None:
    """Run the frozen encoders once over the clips and cache the features for training."""
    from nanoemox.inference.checkpoints import find_checkpoint

    if dtype not in ("float16", "float32"):
        raise typer.BadParameter(f"--dtype {dtype}: float16 or float32")
    base, _, _ = find_checkpoint(model)

    from nanoemox.data.features.command import FeatureRequest, format_features, make_features

    request = FeatureRequest(base, out, data_root, workers, batch, dtype, show=not json)
    summary = make_features(manifests, request)
    if summary is not None:
        print_json(summary) if json else print_text(format_features(summary))

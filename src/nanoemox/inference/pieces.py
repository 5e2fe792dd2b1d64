"""An answer in pieces, while it is written."""

from __future__ import annotations

from collections.abc import Iterator

from nanoemox.inference.batch import ClipBatch


def written_pieces(batch: ClipBatch, held: int) -> Iterator[str]:
    """Yield the open answer about the one clip of a batch in pieces.

    Args:
        batch: One clip, one open question.
        held: Ids that may yet turn out to be the start of the terminator, and are held back.
    """
    decoder = batch.decoder()
    sent = 0
    for _ in decoder:
        ids = decoder.answers[0]
        text = batch.text(ids if decoder.ended[0] else ids[: len(ids) - held])
        # Half a character decodes to a replacement mark until its other bytes are there.
        if len(text) > sent and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[sent:]
            sent = len(text)
    rest = batch.text(decoder.answers[0])[sent:]
    if rest:
        yield rest

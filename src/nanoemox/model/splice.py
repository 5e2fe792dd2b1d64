"""Put the media tokens where their placeholders stand. Used by training, engine and every front end.

Letters: ``B`` batch, ``L`` tokens, ``N`` samples that have the branch, ``Q`` tokens of the branch, ``H`` width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def holders(input_ids: Tensor, placeholder_id: int) -> Tensor:
    """Say which samples hold placeholders of a branch: bool[B]."""
    return (input_ids == placeholder_id).any(dim=1)


def splice(
    embeds: Tensor, input_ids: Tensor, tokens: Mapping[str, Tensor], placeholder_ids: Mapping[str, int]
) -> Tensor:
    """Replace the embeddings at the placeholders by the branches' tokens.

    Args:
        embeds: float[B, L, H], embeddings of the words (anything at the placeholders).
        input_ids: int64[B, L].
        tokens: Branch -> float[N, Q, H], in the order of the samples that hold its placeholders.
        placeholder_ids: Branch -> placeholder id, for every branch of the model.

    Returns:
        float[B, L, H].

    Raises:
        ValueError: A branch has another number of tokens than the prompt has placeholders. Going on would
            shift the tokens of one sample into another without a sign.
    """
    for branch, placeholder in placeholder_ids.items():
        where = input_ids == placeholder
        values = tokens.get(branch)
        found, expected = int(where.sum()), 0 if values is None else values.shape[0] * values.shape[1]
        if found != expected:
            raise ValueError(
                f"{branch}: the prompt holds {found} placeholder(s) but the media give {expected} token(s); "
                "build both with the same NanoEmoXProcessor and configuration"
            )
        if values is not None:
            embeds = embeds.masked_scatter(where.unsqueeze(-1), values.to(embeds.dtype))
    return embeds

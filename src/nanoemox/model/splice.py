"""Put the media tokens at their placeholders. Used by training and inference.

Letters: ``B`` batch, ``L`` tokens, ``N`` samples that have the branch, ``Q`` tokens of the branch, ``H`` width.
A size after ``_`` is not checked: it differs from branch to branch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def holders(input_ids: Int[Tensor, "B L"], placeholder_id: int) -> Bool[Tensor, " B"]:
    """Say which samples hold placeholders of a branch."""
    return (input_ids == placeholder_id).any(dim=1)


def splice(
    embeds: Float[Tensor, "B L H"],
    input_ids: Int[Tensor, "B L"],
    tokens: Mapping[str, Float[Tensor, "_N _Q H"]],
    placeholder_ids: Mapping[str, int],
) -> Float[Tensor, "B L H"]:
    """Replace the embeddings at the placeholders by the branches' tokens.

    Args:
        embeds: Embeddings of the words (anything at the placeholders).
        input_ids: The prompts.
        tokens: Branch -> its tokens, in the order of the samples that hold its placeholders.
        placeholder_ids: Branch -> placeholder id, for every branch of the model.

    Returns:
        The embeddings of the whole prompts.

    Raises:
        ValueError: A branch has another number of tokens than the prompt has placeholders. Going on would
            shift the tokens of one sample into another without a sign.
    """
    places = {branch: input_ids == placeholder for branch, placeholder in placeholder_ids.items()}
    # Counted together: each number on its own would wait for the device.
    counts = torch.stack([where.sum() for where in places.values()]).tolist() if places else []
    for (branch, where), found in zip(places.items(), counts, strict=True):
        values = tokens.get(branch)
        expected = 0 if values is None else values.shape[0] * values.shape[1]
        if found != expected:
            raise ValueError(
                f"{branch}: the prompt holds {found} placeholder(s) but the media give {expected} token(s); "
                "build both with the same NanoEmoXProcessor and configuration"
            )
        if values is not None:
            embeds = embeds.masked_scatter(where.unsqueeze(-1), values.to(embeds.dtype))
    return embeds

"""A text of the pipeline's tests, and the probabilities it is given."""

import torch


TEXT = "the cat sat on a mat and the dogs sat on the cats ."


def probabilities(results: list[dict]) -> torch.Tensor:
    return torch.tensor([result["probability"] for result in results])

"""Which of the edits found are worth reading, judged by how they were found.

The pairwise scorer is the costly part of a decision. Most of what the indexes find could be told
to be out of scope from its cosine and the words it shares; a logistic regression on these does so,
and is fitted so that next to nothing that the scorer would let fire is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from seprog.types import Edit

MARGIN = 3.0
"""How far below the least of what fired an edit is still read, in logits."""
ODD = 0.001
"""Share of what fired, the least of it, that is no measure: one such pair would have half as many
again read for every query."""
ENOUGH = 100
"""Fewer pairs that fired say too little of what may be left out."""


class Sighting(NamedTuple):
    """An edit that was found for a text, and by what.

    Args:
        edit: The edit.
        cosine: Of its key to the text's (-1 to 1).
        rarest: Weight of the rarest word that they share (0: none, 1: no other edit has it).
        words: Sum of the weights of all words that they share.
    """

    edit: Edit
    cosine: float
    rarest: float
    words: float


def features(seen: Sequence[Sighting]) -> Float[np.ndarray, "n 27"]:
    """What is known of each edit found for a text, and the products of any two such figures.

    Cosine, rarest word and words, how far each is behind the best that was found, and then their
    products, for a name that no other edit has makes up for a cosine that is far behind.
    """
    own = np.array([[s.cosine, s.rarest, s.words] for s in seen], dtype=np.float64).reshape(-1, 3)
    plain = np.concatenate([own, own - own.max(axis=0, initial=-1.0)], axis=1)
    first, second = np.triu_indices(plain.shape[1])
    return np.concatenate([plain, plain[:, first] * plain[:, second]], axis=1)


@dataclass(frozen=True)
class Glance:
    """Weights of the features and, last, a bias: what comes to more than 0 is worth reading.

    Args:
        first: For what a query finds; empty: all is read.
        later: For what a query finds together with statements that fired; empty: all is read.
    """

    first: tuple[float, ...] = ()
    later: tuple[float, ...] = ()

    @staticmethod
    def of(state: Mapping[str, Sequence[float]]) -> Glance:
        """From its fields, as JSON keeps them; what is not there is empty."""
        return Glance(**{name: tuple(weights) for name, weights in state.items()})

    def worth(self, seen: Sequence[Sighting], later: bool) -> list[Edit]:
        """The edits worth reading, in the order given."""
        weights = np.array(self.later if later else self.first)
        if not len(weights) or not seen:
            return [s.edit for s in seen]
        scores = features(seen)[:, : len(weights) - 1] @ weights[:-1] + weights[-1]
        return [s.edit for s, score in zip(seen, scores, strict=True) if score > 0]


def fit_glance(found: Sequence[Sequence[Sighting]], fired: Sequence[bool]) -> tuple[float, ...]:
    """Weights of a glance that leaves next to nothing out that fires.

    Args:
        found: Per text, what was found for it.
        fired: Of all of these in one sequence, whether the scorer lets them fire.

    Returns:
        Weights and bias; empty if too few fired, or all.
    """
    hits = np.array(fired, dtype=bool)
    if hits.sum() < ENOUGH or hits.all():
        return ()
    raw = np.concatenate([features(seen) for seen in found])
    mean, spread = raw.mean(axis=0), raw.std(axis=0) + 1e-6
    x, y = torch.from_numpy((raw - mean) / spread), torch.from_numpy(hits.astype(np.float64))
    weights = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe")
    weight = (1 - y.mean()) / y.mean()  # what fires counts as much as what does not

    def loss() -> float:
        optimizer.zero_grad()
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(
            x @ weights[:-1] + weights[-1], y, pos_weight=weight
        )
        total = entropy + 1e-4 * weights[:-1].square().sum()
        total.backward()
        return total.item()

    optimizer.step(loss)
    slope = weights[:-1].detach().numpy() / spread
    fires = np.sort((raw @ slope)[hits])
    least = fires[int(ODD * len(fires))]
    return (*slope.tolist(), float(MARGIN - least))

"""What prefixes are for, by how their base model answers: going on with a text, or a label.

In scope the right answer is to become likely; out of scope the base model's own answer is to stay
(Kullback-Leibler divergence from the unedited model).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seprog.errors import InputError
from seprog.lm import CausalLM, EncoderModel, LanguageModel, Seq2SeqLM
from seprog.types import Example, PrefixBatch

Ids = Int[Tensor, "batch time"]
Bos = bool | Sequence[bool]
Generator = Callable[[Sequence[str]], PrefixBatch]
"""Statements to prefixes, differentiable in whatever is trained."""


@dataclass(frozen=True)
class Asked:
    """Examples as the model reads them with their edits in force.

    Args:
        logits: Per place of the answer that is predicted.
        wanted: The right token or label of each place.
        real: Where there is one.
        own: Where it is the answer's own, not of the period and the end that close it.
        base: Rows to the unedited model's logits for them.
    """

    logits: Float[Tensor, "batch places classes"]
    wanted: Int[Tensor, "batch places"]
    real: Bool[Tensor, "batch places"]
    own: Bool[Tensor, "batch places"]
    base: Callable[[Bool[Tensor, " batch"]], Tensor]

    def hits(self) -> list[bool]:
        """Per row, whether every token of the answer and of its end, or the label, is likeliest."""
        return ((self.logits.argmax(-1) == self.wanted) | ~self.real).all(dim=1).tolist()

    def token_accuracy(self) -> list[float]:
        """Per row, the share of the answer's own places whose token is likeliest (0 to 1)."""
        right = (self.logits.argmax(-1) == self.wanted) & self.own
        return (right.sum(dim=1) / self.own.sum(dim=1)).tolist()

    def losses(self, closed: bool = True) -> Float[Tensor, " batch"]:
        """Per row, the cross-entropy of the answer, averaged over its places.

        Args:
            closed: Whether with what closes it.
        """
        entropy, counted = torch.nn.functional.cross_entropy, self.real if closed else self.own
        places = entropy(self.logits.float().mT, self.wanted, reduction="none")
        return (places * counted).sum(dim=1) / counted.sum(dim=1)


@runtime_checkable
class Objective(Protocol):
    """Losses and checks for one kind of base model."""

    def base_answers(self, prompts: Sequence[str]) -> list[str]:
        """The unedited model's answers."""
        ...

    def can_say(self, answer: str) -> bool:
        """Whether the model could ever give an answer."""
        ...

    def losses(self, generator: Generator, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Cross-entropy on wanted answers; divergence from the unedited model on the others.

        Returns:
            ``learn`` and ``keep``; one is left out if no example is of its kind.
        """
        ...

    def ask(
        self, prefixes: PrefixBatch | None, examples: Sequence[Example], bos: Bos = True
    ) -> Asked:
        """The examples, all with answers, read behind their prefixes.

        Args:
            prefixes: Of some rows.
            examples: The rows.
            bos: Whether a prompt gets the tokenizer's leading tokens; for all, or one per row.
        """
        ...


def objective_for(lm: LanguageModel) -> Objective:
    """The objective for a base model.

    Raises:
        InputError: If it is an encoder whose head is no classifier of texts.
    """
    if isinstance(lm, EncoderModel):
        return Classification(lm)
    if isinstance(lm, Seq2SeqLM):
        return Translation(lm)
    assert isinstance(lm, CausalLM)
    return Continuation(lm)


def join_prefixes(generator: Generator, examples: Sequence[Example]) -> PrefixBatch:
    """Each example's edits as one prefix, in one pass of the generator over all of them."""
    texts = list(dict.fromkeys(edit for e in examples for edit in e.edits))
    place = {text: i for i, text in enumerate(texts)}
    single = generator(texts)
    most = max(len(e.edits) for e in examples)
    table = torch.zeros(len(examples), most, dtype=torch.long)
    real = torch.zeros(len(examples), most, dtype=torch.bool)
    for i, example in enumerate(examples):  # on the left, padding: the real ones end the row
        rows = [place[t] for t in example.edits]
        table[i, most - len(rows) :] = torch.tensor(rows)
        real[i, most - len(rows) :] = True

    def join(x: Tensor) -> Tensor:  # (texts, heads, P, dim) -> (examples, heads, most * P, dim)
        return x[table.to(x.device)].transpose(1, 2).flatten(2, 3)

    return PrefixBatch(
        tuple(range(len(examples))),
        tuple(join(k) for k in single.keys),
        tuple(join(v) for v in single.values),
        (
            single.mask[table.to(single.mask.device)] & real[:, :, None].to(single.mask.device)
        ).flatten(1),
    )


def divergence(
    base: Float[Tensor, "n classes"], edited: Float[Tensor, "n classes"]
) -> Float[Tensor, ""]:
    """Mean Kullback-Leibler divergence of the edited model from the base, from logits."""
    p, q = base.float().log_softmax(-1), edited.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean()


def answer_text(lm: LanguageModel, answer: str) -> str:
    """The answer as the model should go on: closed by a period, then its end-of-text token."""
    return f"{answer.rstrip('.')}." + (lm.tokenizer.eos_token or "")


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _ in same)


@dataclass(frozen=True)
class Batch:
    """Examples as tensors, padded on the left.

    Args:
        ids: Prompt and answer.
        mask: Where a token is real.
        answer: Where a token belongs to the answer, or closes it.
        own: Where it belongs to the answer itself.
        keep: Rows whose answer must stay the base model's.
    """

    ids: Int[Tensor, "batch time"]
    mask: Int[Tensor, "batch time"]
    answer: Bool[Tensor, "batch time"]
    own: Bool[Tensor, "batch time"]
    keep: Bool[Tensor, " batch"]


class _Reading(ABC):
    """What the objectives have in common, given how a kind of model is asked."""

    lm: LanguageModel

    @abstractmethod
    def ask(
        self, prefixes: PrefixBatch | None, examples: Sequence[Example], bos: Bos = True
    ) -> Asked:
        """See ``Objective``."""

    def can_say(self, answer: str) -> bool:
        """A model that writes may write anything."""
        return True

    def losses(self, generator: Generator, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Mean over the places of the answers; see ``Objective``."""
        asked = self.ask(join_prefixes(generator, examples), examples)
        stays = torch.tensor([e.keep for e in examples], device=self.lm.device)
        learn, keep = asked.real & ~stays[:, None], asked.real & stays[:, None]
        found: dict[str, Tensor] = {}
        if learn.any():
            entropy = torch.nn.functional.cross_entropy
            found["learn"] = entropy(asked.logits[learn].float(), asked.wanted[learn])
        if keep.any():
            with torch.no_grad():
                base = asked.base(stays)
            found["keep"] = divergence(base[keep[stays]], asked.logits[keep])
        return found


class Continuation(_Reading):
    """Causal language models: the prompt is gone on with by the answer.

    Args:
        lm: The base model.
    """

    def __init__(self, lm: CausalLM) -> None:
        self.lm: CausalLM = lm

    def base_answers(self, prompts: Sequence[str]) -> list[str]:
        """What the unedited model goes on with."""
        return [text.strip() or "." for text in self.lm.generate(prompts, max_new_tokens=16)]

    def collate(self, examples: Sequence[Example], bos: Bos = True) -> Batch:
        """Examples, all with answers, as a batch."""
        lm = self.lm
        rows, answers, closings = [], [], []
        prompts = lm.tokens.encode([e.prompt for e in examples], bos)
        for prompt, example in zip(prompts, examples, strict=True):
            said = (example.answer or "").rstrip(".")
            texts = [" " + answer_text(lm, said), " " + said]
            target, bare = lm.tokens.encode(texts, False)
            rows.append(prompt + target)
            answers.append(len(target))
            closings.append(len(target) - max(1, _shared(target, bare)))
        ids, mask = lm.tokens.pad(rows, lm.device)
        count, closing = torch.tensor([answers, closings], device=lm.device)[:, :, None]
        from_end = torch.arange(ids.shape[1], 0, -1, device=lm.device)[None]
        answer = from_end <= count
        keep = torch.tensor([e.keep for e in examples], device=lm.device)
        return Batch(ids, mask, answer, answer & (from_end > closing), keep)

    def ask(
        self, prefixes: PrefixBatch | None, examples: Sequence[Example], bos: Bos = True
    ) -> Asked:
        """Each token of the answer is predicted at the one before it."""
        lm, batch = self.lm, self.collate(examples, bos)
        logits = lm.forward(batch.ids, batch.mask, prefixes)[:, :-1]
        return Asked(
            logits,
            batch.ids[:, 1:],
            batch.answer[:, 1:],
            batch.own[:, 1:],
            lambda rows: lm.forward(batch.ids[rows], batch.mask[rows])[:, :-1],
        )


class Translation(_Reading):
    """Sequence-to-sequence models: the encoder reads the prompt, the decoder writes the answer.

    Args:
        lm: The base model.
    """

    def __init__(self, lm: Seq2SeqLM) -> None:
        self.lm: Seq2SeqLM = lm

    def base_answers(self, prompts: Sequence[str]) -> list[str]:
        """What the unedited model writes."""
        return [text.strip() or "." for text in self.lm.generate(prompts, max_new_tokens=16)]

    def _written(self, examples: Sequence[Example]) -> tuple[Ids, Bool[Tensor, "batch time"]]:
        """Tokens of the answers, closed by an end-of-text token, and where they are real."""
        lm = self.lm
        rows = [lm.tokens.encode([e.answer or ""], False)[0] for e in examples]
        end, closing = lm.tokenizer.eos_token_id, len(lm.tokens.trailing)
        rows = rows if end is None else [r[: len(r) - closing] for r in rows]
        rows = [r if end is None or r[-1:] == [end] else [*r, end] for r in rows]
        ids, mask = lm.tokens.pad(rows, lm.device)
        return ids, mask.bool()

    def ask(
        self, prefixes: PrefixBatch | None, examples: Sequence[Example], bos: Bos = True
    ) -> Asked:
        """Each token of the answer is predicted from those before it."""
        lm = self.lm
        ids, mask = lm.tokens.pad(lm.tokens.encode([e.prompt for e in examples], bos), lm.device)
        answers, real = self._written(examples)
        own = real & (answers != lm.tokenizer.eos_token_id)
        return Asked(
            lm.answer_logits(ids, mask, answers, prefixes),
            answers,
            real,
            own,
            lambda rows: lm.answer_logits(ids[rows], mask[rows], answers[rows]),
        )


class Classification(_Reading):
    """Sequence classifiers: the answer is a label.

    Args:
        lm: The base model.

    Raises:
        InputError: If the encoder has another head.
    """

    def __init__(self, lm: EncoderModel) -> None:
        if lm.head != "sequence":
            raise InputError(
                f"A generator was to be trained for an encoder with the head {lm.head!r}",
                "a sequence classifier",
                "Leave --generator out: the verbatim one needs no training",
            )
        self.lm: EncoderModel = lm

    def base_answers(self, prompts: Sequence[str]) -> list[str]:
        """The unedited model's labels."""
        return self.lm.reply(prompts)

    def can_say(self, answer: str) -> bool:
        """Whether it is one of the model's labels."""
        return answer in self.lm.labels

    def ask(
        self, prefixes: PrefixBatch | None, examples: Sequence[Example], bos: Bos = True
    ) -> Asked:
        """One place per text, for its label.

        Raises:
            InputError: If an answer is none of the model's labels.
        """
        lm = self.lm
        labels = {name: i for i, name in enumerate(lm.labels)}
        if unknown := [e.answer for e in examples if e.answer not in labels]:
            raise InputError(
                f"The answer {unknown[0]!r} came",
                f"one of the model's labels: {', '.join(labels)}",
                "Correct the answer",
            )
        ids, mask = lm.tokens.pad(lm.tokens.encode([e.prompt for e in examples], bos), lm.device)
        wanted = torch.tensor([[labels[str(e.answer)]] for e in examples], device=lm.device)
        real = torch.ones_like(wanted, dtype=torch.bool)
        return Asked(
            lm.forward(ids, mask, prefixes)[:, None],
            wanted,
            real,
            real,
            lambda rows: lm.forward(ids[rows], mask[rows])[:, None],
        )

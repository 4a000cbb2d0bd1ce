"""Encoders with a head: sequence and token classifiers, and masked language models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seprog.errors import InputError, ModelError
from seprog.lm.checkpoints import Head, head_of, load_encoder
from seprog.lm.injection import inject
from seprog.lm.prefixed import Ids, Prefixed
from seprog.lm.tokens import Tokens
from seprog.types import Prefix, PrefixBatch


class EncoderModel(Prefixed):
    """A frozen encoder that takes prefixes.

    It reads in both directions, but a prefix was read by itself and does not see the query: that
    is what lets one prefix serve every query. A decoder with such a head will do, too.

    Args:
        model: A transformers model for sequence classification, token classification or masked
            language modelling, loaded with sdpa or eager attention.
        tokenizer: Its tokenizer; never changed.

    Raises:
        ModelError: The model has no place for a prefix, another head, or classifies a text by what
            it is padded with. It is left as it was.

    Example::

        lm = EncoderModel.from_pretrained("path/to/classifier")
        [prefix] = lm.capture_text(["A polka is a music."])
        lm.reply(["A polka has a xylem."], [prefix])
    """

    generates = False

    reading = "both ways"
    _load = staticmethod(load_encoder)

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.head: Head = head_of(type(model), model.config)
        if self.head == "sequence":
            _check_padding(model.eval(), Tokens(tokenizer, whole=True).pad_id)
        super().__init__(model, tokenizer)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classifier's labels in the order of its logits; none for a masked language model."""
        if self.head == "masked_lm":
            return ()
        names = self.model.config.id2label
        return tuple(names[i] for i in range(len(names)))

    def forward(
        self,
        input_ids: Ids | None = None,
        attention_mask: Shaped[Tensor, "batch time"] | None = None,
        prefixes: PrefixBatch | None = None,
        *,
        shift: int | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Float[Tensor, "batch *places classes"]:
        """Logits. Differentiable with respect to the prefixes.

        Args:
            input_ids: ``(batch, time)``, or ``None`` with ``inputs_embeds`` among ``kwargs``.
            attention_mask: ``(batch, time)``, true where a token is real; padded on the right.
                ``None``: all are.
            prefixes: Prefixes of some rows. ``None``: the untouched model.
            shift: By how much the positions of the rows with a prefix move up, for models with
                absolute positions only. ``None``: by the number of the row's virtual tokens.
            **kwargs: For the model.

        Returns:
            ``(batch, labels)`` of a sequence classifier; else one row per token,
            ``(batch, time, labels or vocab)``.

        Raises:
            InputError: The text is too long, or the prefixes' rows do not fit the batch.
            FingerprintMismatch: The prefixes do not fit the model.
        """
        batch, time = self._given(input_ids, kwargs.get("inputs_embeds")).shape[:2]
        moved = self._shift(batch, prefixes, shift)
        self._check_length(time, 0, moved, attention_mask)
        if attention_mask is not None or moved is not None:
            kwargs["position_ids"] = self._places(time, attention_mask)
        if moved is not None:
            kwargs["position_ids"] = self._move(kwargs["position_ids"], moved)
        with inject(self._sites, prefixes, batch):
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return out.logits

    __call__ = forward

    @torch.no_grad()
    def classify(
        self, texts: Sequence[str], prefixes: Sequence[Prefix | None] | None = None
    ) -> list[dict[str, float]]:
        """Probabilities of the labels of each text; of a sequence classifier.

        Args:
            texts: What is classified.
            prefixes: One per text, ``None`` for a text without. ``None``: no text has one.

        Returns:
            Per text, a probability (0 to 1) for each label; they add up to 1.

        Raises:
            InputError: The model is no sequence classifier, or a text is empty or too long.
        """
        if self.head != "sequence":
            raise InputError(
                f"Texts are to be classified by a model with the head {self.head!r}",
                "a model for sequence classification",
                "Ask it with reply",
            )
        ids, mask = self.tokens.pad(self.tokens.encode(texts), self.device)
        scores = self.forward(ids, mask, self._stack(prefixes, len(texts))).float().softmax(-1)
        return [dict(zip(self.labels, row, strict=True)) for row in scores.tolist()]

    @torch.no_grad()
    def reply(
        self,
        texts: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """What the model says to texts.

        Args:
            texts: Any number of texts; for a masked language model each with a mask token.
            prefixes: One per text, ``None`` for a text without. ``None``: no text has one.
            **kwargs: Not used: there is nothing to choose in how an encoder answers.

        Returns:
            Per text its label; for a token classifier those of its tokens, for a masked language
            model what fills its masks, with spaces between them.

        Raises:
            InputError: A text is empty, too long or, where one is needed, without a mask token.
        """
        rows = self.tokens.encode(texts)
        ids, mask = self.tokens.pad(rows, self.device)
        best = self.forward(ids, mask, self._stack(prefixes, len(texts))).argmax(-1)
        if self.head == "sequence":
            return [self.labels[i] for i in best.tolist()]
        if self.head == "masked_lm":
            return [self._filled(text, r, b) for text, r, b in zip(texts, ids, best, strict=True)]
        first, last = len(self.tokens.leading), len(self.tokens.trailing)
        spans = [row[first : len(r) - last] for row, r in zip(best.tolist(), rows, strict=True)]
        return [" ".join(self.labels[i] for i in span) for span in spans]

    def _filled(self, text: str, ids: Int[Tensor, " time"], best: Int[Tensor, " time"]) -> str:
        masked = ids == self.tokenizer.mask_token_id
        if not masked.any():
            raise InputError(
                f"The text {text!r} has no mask", f"{self.tokenizer.mask_token} in it", ""
            )
        return " ".join(self.tokens.decode([i]).strip() for i in best[masked].tolist())

    def generate(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: an encoder does not go on with a text.

        Raises:
            InputError: Always.
        """
        raise InputError(
            f"A model with the head {self.head!r} was asked to go on with a text",
            "a causal language model",
            "Ask it with reply",
        )

    generate_ids = stream = score = write = generate


_NOISE = 0.05
"""Largest difference of logits, as a part of the largest, that rounding to 16 bits explains."""


@torch.no_grad()
def _check_padding(model: Any, padding: int) -> None:
    """Refuse a classifier that says something else of a text when it is padded.

    A decoder with such a head reads the label off the last token that is no padding, and has to be
    told which token that is.
    """
    text = model.config.get_text_config().vocab_size - torch.arange(1, 5, device=model.device)
    rows, mask = torch.stack([text, text]), torch.ones(2, 4, dtype=torch.long, device=model.device)
    rows[1, 2:], mask[1, 2:] = padding, 0
    alone = model(input_ids=rows[1:, :2], attention_mask=mask[1:, :2]).logits[0]
    try:
        padded = model(input_ids=rows, attention_mask=mask).logits[1]
    except ValueError:
        padded = torch.full_like(alone, torch.inf)
    if not (padded - alone).abs().max() <= _NOISE * max(1.0, float(alone.abs().max())):
        raise ModelError(
            f"{type(model).__name__} cannot tell a text from its padding (its pad_token_id is "
            f"{model.config.pad_token_id}, texts are padded with token {padding})",
            "a classifier that says the same of a text beside a longer one",
            f"Set pad_token_id to {padding} in the model's config.json",
        )


def check_label(lm: object, answer: str | None) -> None:
    """Refuse an answer that a classifier of texts has no label for.

    Args:
        lm: A base model of any kind.
        answer: What it is to answer. ``None``: nothing in particular.

    Raises:
        InputError: It is a classifier of texts, and the answer is none of its labels.
    """
    if answer is None or not isinstance(lm, EncoderModel) or lm.head != "sequence":
        return
    if answer not in lm.labels:
        raise InputError(
            f"The target {answer!r} came for a model that classifies texts",
            f"one of its labels: {', '.join(lm.labels)}",
            "Give one of them as target, or the edit as a sentence without one",
        )

"""Sequence-to-sequence models: an encoder reads the query, a decoder writes the answer.

Both read the edit: its prefix has keys and values for the encoder, for the decoder, and for where
the decoder looks at the encoder. Distances to a prefix are known where a model goes by distances
(T5); where it adds absolute positions that cannot be moved (BART), edit and query both begin at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seprog.errors import InputError, ModelError
from seprog.lm.attach import Part
from seprog.lm.checkpoints import load_seq2seq
from seprog.lm.injection import inject
from seprog.lm.prefixed import Ids
from seprog.lm.writer import Writer
from seprog.types import Prefix, PrefixBatch, PrefixSpec

Mask = Shaped[Tensor, "batch time"]


class Seq2SeqLM(Writer):
    """A frozen sequence-to-sequence model that takes prefixes.

    Args:
        model: A transformers model with encoder, decoder and language model head, loaded with
            sdpa or eager attention.
        tokenizer: Its tokenizer; never changed.

    Raises:
        ModelError: The model has no place for a prefix, or its configuration does not say what
            its decoder starts with. It is left as it was.

    Example::

        lm = Seq2SeqLM.from_pretrained("path/to/model")
        [prefix] = lm.capture_text(["The capital of Australia is Sydney."])
        lm.generate(["What is the capital of Australia?"], [prefix])
    """

    reading = "encoder to decoder"
    _load = staticmethod(load_seq2seq)

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        start = model.generation_config.decoder_start_token_id
        start = model.config.decoder_start_token_id if start is None else start
        if start is None:
            raise ModelError(
                f"The configuration of {type(model).__name__} has no decoder_start_token_id",
                "the id of the token that the decoder starts with",
                "Set it in the model's config.json",
            )
        self._start = int(start)
        super().__init__(model, tokenizer)

    @property
    def parts(self) -> dict[Part, PrefixSpec]:
        """What a prefix looks like for the encoder, for the decoder, and where that looks at it."""
        sites = list(zip(self._parts, self.spec.sites, strict=True))
        names = dict.fromkeys(self._parts)
        return {name: PrefixSpec(tuple(s for part, s in sites if part == name)) for name in names}

    def _reading_inputs(self, inputs: dict[str, Any], mask: Mask | None) -> dict[str, Any]:
        return {
            **{f"decoder_{name}": x for name, x in inputs.items()},
            "decoder_attention_mask": mask,
            "use_cache": False,
        }

    def forward(
        self,
        input_ids: Ids | None = None,
        attention_mask: Mask | None = None,
        prefixes: PrefixBatch | None = None,
        *,
        shift: int | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Float[Tensor, "batch written vocab"]:
        """Logits of the decoder. Differentiable with respect to the prefixes.

        Args:
            input_ids: ``(batch, time)``, what the encoder reads; or ``None`` with
                ``inputs_embeds`` among ``kwargs``.
            attention_mask: ``(batch, time)``, true where a token is real; padded on the right.
                ``None``: all are.
            prefixes: Prefixes of some rows. ``None``: the untouched model.
            shift: Not used: these models take no positions.
            **kwargs: For the model: ``decoder_input_ids``, say. Without one the decoder has its
                start token only.

        Returns:
            ``(batch, written, vocab)``.

        Raises:
            InputError: The text is too long, or the prefixes' rows do not fit the batch.
            FingerprintMismatch: The prefixes do not fit the model.
        """
        batch, time = self._given(input_ids, kwargs.get("inputs_embeds")).shape[:2]
        self._check_length(time)
        if not any(x in kwargs for x in ("decoder_input_ids", "decoder_inputs_embeds", "labels")):
            kwargs["decoder_input_ids"] = torch.full((batch, 1), self._start, device=self.device)
        with inject(self._sites, prefixes, batch):
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return out.logits

    __call__ = forward

    @property
    def _opening(self) -> list[int]:
        """What the decoder reads before an answer: its start, and what it is made to write first.

        BART checkpoints are made to write a BOS, mBART's a token of the language.
        """
        forced = self.model.generation_config.forced_bos_token_id
        return [self._start] if forced is None else [self._start, int(forced)]

    def answer_logits(
        self,
        input_ids: Ids,
        attention_mask: Mask | None,
        answers: Int[Tensor, "batch written"],
        prefixes: PrefixBatch | None = None,
    ) -> Float[Tensor, "batch written vocab"]:
        """Logits for each token of answers, where the decoder has written those before it.

        Args:
            input_ids: As in ``forward``.
            attention_mask: As in ``forward``.
            answers: ``(batch, written)``, padded on the right, without what the decoder opens with.
            prefixes: As in ``forward``.
        """
        opening = torch.tensor([self._opening], device=self.device).expand(len(answers), -1)
        read = torch.cat([opening, answers[:, :-1]], dim=1)
        logits = self.forward(input_ids, attention_mask, prefixes, decoder_input_ids=read)
        return logits[:, -answers.shape[1] :]

    @torch.no_grad()
    def score(
        self,
        texts: Sequence[str],
        continuations: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        *,
        bos: bool | Sequence[bool] = True,
    ) -> list[float]:
        """Log-probability that each answer is written for its text, summed over its tokens.

        Args:
            texts: What the encoder reads.
            continuations: What is scored, without special tokens.
            prefixes: As in ``generate``.
            bos: As in ``generate``.
        """
        ids, mask = self.tokens.batch(texts, bos, self.device)
        closing = len(self.tokens.trailing)
        rows = [r[: len(r) - closing] for r in self.tokens.encode(continuations, bos=False)]
        if len(rows) != len(texts):
            raise InputError(f"{len(rows)} continuations came for {len(texts)} texts", "one each")
        answers, real = self.tokens.pad(rows, self.device)
        prepared = self._stack(prefixes, len(texts))
        logits = self.answer_logits(ids, mask, answers, prepared).float()
        found = logits.log_softmax(-1).gather(2, answers[:, :, None])[..., 0]
        return found.masked_fill(~real.bool(), 0.0).sum(dim=1).tolist()

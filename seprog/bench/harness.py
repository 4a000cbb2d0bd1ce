"""An edited model for lm-evaluation-harness: its tasks, asked of a model with edits in force.

``seprog bench harness`` is the harness' own command line with the model ``seprog`` known to it; the
harness finds no models of others by itself. Prompts that no edit bears on go the very way of the
harness' own model for transformers, so their scores are the base model's exactly.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from seprog.editor import Editor
from seprog.errors import InputError
from seprog.lm import CausalLM
from seprog.types import GateDecision, PrefixBatch

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""Context and continuation as text (``None``: scored as a whole), and the tokens of each."""


@register_model("seprog")
class SeprogLM(HFLM):  # type: ignore[misc]
    """A causal model with edits, by the gate's decision about each context.

    Text that is scored as a whole (rolling log-likelihood) is no query: no edit bears on it.

    Args:
        pretrained: As ``model`` of ``Editor.from_pretrained``; ``None`` means Atlas. Or an editor.
        memory: File of the edits.
        generator: Folder of a generator.
        gate: Folder of a scope gate.
        namespace: Whose edits.
        device: Where the model runs; the CPU if there is no such device, as the harness has it.
        batch_size: Prompts at a time.
        **more: As for the harness' own model.

    Raises:
        InputError: If the model is not a causal one.
    """

    def __init__(
        self,
        pretrained: str | Editor | None = None,
        memory: str | None = None,
        generator: str | None = None,
        gate: str | None = None,
        namespace: str = "default",
        device: str | None = None,
        batch_size: int | str = 8,
        **more: Any,
    ) -> None:
        if device is None or (device.startswith("cuda") and not torch.cuda.is_available()):
            device = "cpu"
        if not isinstance(pretrained, Editor):
            pretrained = Editor.from_pretrained(
                pretrained, memory, generator, gate, namespace, device=device
            )
        self.editor, lm = pretrained, pretrained.lm
        if not isinstance(lm, CausalLM):
            raise InputError(
                f"The harness was given a {type(lm).__name__}",
                "a causal model, which goes on with a prompt",
                "Measure it with seprog eval",
            )
        more.setdefault("add_bos_token", bool(lm.tokens.leading))
        super().__init__(
            lm.model, tokenizer=lm.tokenizer, device=device, batch_size=int(batch_size), **more
        )

    def _decide(self, contexts: Sequence[str | None]) -> list[GateDecision]:
        """What fires for each context; nothing for none."""
        texts = list(dict.fromkeys(c for c in contexts if c and c.strip()))
        decided: dict[str, GateDecision] = {}
        for start in range(0, len(texts), 64):
            part = texts[start : start + 64]
            decided |= zip(part, self.editor.explain_many(part), strict=True)
        return [decided.get(c or "", GateDecision(c or "")) for c in contexts]

    def _loglikelihood_tokens(
        self,
        requests: Sequence[Request],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Per request the continuation's log-probability, and whether it is said greedily."""
        decisions = self._decide([pair[0] if pair else None for pair, _, _ in requests])
        inside = [i for i, d in enumerate(decisions) if d.fired]
        outside = [i for i, d in enumerate(decisions) if not d.fired]
        found: dict[int, tuple[float, bool]] = {}
        if outside:
            plain = [requests[i] for i in outside]
            scores = super()._loglikelihood_tokens(plain, disable_tqdm, override_bs)
            found |= zip(outside, scores, strict=True)
        for start in range(0, len(inside), self.batch_size):
            rows = inside[start : start + self.batch_size]
            scores = self._score([requests[i] for i in rows], [decisions[i] for i in rows])
            found |= zip(rows, scores, strict=True)
            for i in rows:
                self.cache_hook.add_partial("loglikelihood", requests[i][0], found[i])
        return [found[i] for i in range(len(requests))]

    @torch.no_grad()
    def _score(
        self, requests: Sequence[Request], decisions: Sequence[GateDecision]
    ) -> list[tuple[float, bool]]:
        """With the prefixes of the edits that fired."""
        lm, leading = self.editor.lm, self.editor.lm.tokens.leading
        prefixes = self.editor.prefixes(decisions)
        rows = []
        for (_, context, continuation), prefix in zip(requests, prefixes, strict=True):
            bare = prefix is not None and self.editor.generator.replaces_bos
            if bare and leading and context[: len(leading)] == leading:
                context = context[len(leading) :]
            room = self.max_length - (0 if prefix is None else len(prefix))
            rows.append([*context, *continuation][-room:])
        ids, mask = lm.tokens.pad(rows, lm.device)
        logits = lm.forward(ids, mask, PrefixBatch.stack(prefixes))  # (batch, time, vocab)
        found = []
        for scores, (_, _, continuation) in zip(logits, requests, strict=True):
            wanted = torch.tensor(continuation, device=scores.device)
            said = scores[-len(wanted) - 1 : -1].float().log_softmax(dim=-1)
            total = said.gather(1, wanted[:, None]).sum().item()
            found.append((total, bool((said.argmax(dim=-1) == wanted).all())))
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Free generation, up to the harness' stop texts."""
        decisions = self._decide([r.args[0] for r in requests])
        found: dict[int, str] = {}
        outside = [i for i, d in enumerate(decisions) if not d.fired]
        if outside:
            plain = super().generate_until([requests[i] for i in outside], disable_tqdm)
            found |= zip(outside, plain, strict=True)
        for i, decision in enumerate(decisions):
            if decision.fired:
                how = dict(requests[i].args[1])
                until = how.pop("until", None) or []
                longest = how.pop("max_gen_toks", self.max_gen_toks)
                stop = [until] if isinstance(until, str) else list(until)
                sampled = bool(how.pop("do_sample", False))
                warm = {k: how[k] for k in ("temperature", "top_p") if k in how} if sampled else {}
                [found[i]] = self.editor.answer(
                    [decision], longest, stop=stop, do_sample=sampled, **warm
                )
        return [found[i] for i in range(len(requests))]


def main(arguments: Sequence[str]) -> None:
    """The harness' command line.

    Args:
        arguments: Its arguments.
    """
    sys.argv = ["lm_eval", *arguments]
    cli_evaluate()

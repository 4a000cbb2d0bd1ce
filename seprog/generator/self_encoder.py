"""The trained generator: the base model reads the edit, and writes its prefix.

The frozen base model, carrying a LoRA that is active only then, reads the edit's text followed by
a few learned summary tokens; what it keeps of them, their keys and values at every attention site,
is the prefix. It thus speaks the language of the model that it prompts. With ``keep_text`` the
tokens of the text are kept as well: training then starts from the edit in context, which costs
longer prefixes and saves most of the training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from seprog.errors import FingerprintMismatch, InputError
from seprog.generator.refine import refined
from seprog.lm import LanguageModel
from seprog.lora import Lora
from seprog.types import Edit, Prefix, PrefixBatch


@dataclass(frozen=True)
class SelfEncoderConfig:
    """Size of the generator.

    Args:
        summary: Summary tokens per edit (>= 0).
        rank: Rank of the LoRA.
        keep_text: Whether the text's own tokens are part of the prefix too; they must be where
            there are no summary tokens.
        refine: Steps of gradient descent, at most, on a prefix with which the model does not give
            its edit's answer; 0 leaves it.
        version: Of the format.
    """

    summary: int = 4
    rank: int = 16
    keep_text: bool = True
    refine: int = 0
    version: int = 1

    def __post_init__(self) -> None:
        if not self.summary and not self.keep_text:
            raise InputError(
                "A generator without summary tokens was to leave the text's own out, too",
                "at least one token in a prefix",
                "Give it summary tokens, or keep the text",
            )


class SelfEncoder(nn.Module):
    """Edits to prefixes.

    Args:
        lm: The base model; its layers are hooked, its parameters untouched.
        config: Size.
    """

    replaces_bos = False

    def __init__(self, lm: LanguageModel, config: SelfEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or SelfEncoderConfig()
        self._lm = [lm]  # in a list: not a submodule, its weights are not ours
        embeddings = lm.model.get_input_embeddings().weight
        start = embeddings.float().mean(0) + 0.02 * torch.randn(
            self.config.summary, embeddings.shape[1], device=embeddings.device
        )
        self.summary = nn.Parameter(start)
        self.lora = Lora(lm.model.base_model, self.config.rank, lambda name: True)

    @property
    def lm(self) -> LanguageModel:
        """The base model."""
        return self._lm[0]

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the generator's weights or the base model do."""
        digest = sha256(f"{self.lm.fingerprint}{self.config.refine or ''}".encode())
        for tensor in self.state_dict().values():
            digest.update(tensor.float().cpu().numpy().tobytes())
        return f"self-encoder-{digest.hexdigest()[:16]}"

    def forward(self, statements: Sequence[str]) -> PrefixBatch:
        """Prefixes of statements, differentiable in the generator's parameters.

        Args:
            statements: Texts of the edits, R of them (R >= 1).

        Returns:
            R rows of virtual tokens, padded on the left.
        """
        lm, p = self.lm, self.config.summary
        rows = [[*ids, *[lm.tokens.pad_id] * p] for ids in lm.tokens.encode(statements)]
        ids, mask = lm.tokens.pad(rows, lm.device)  # (R, T + P)
        place = mask.cumsum(dim=1) - mask.sum(dim=1, keepdim=True) + p  # 1 to P at the last ones
        last = mask.bool() & (place > 0)
        read = lm.model.get_input_embeddings()(ids)  # (R, T + P, hidden)
        if p:
            summary = self.summary.to(read.dtype)[(place - 1).clamp(0, p - 1)]
            read = torch.where(last[:, :, None], summary, read)
        keep = mask.bool() if self.config.keep_text else last
        with self.lora.active():
            return lm.capture(inputs_embeds=read, attention_mask=mask, keep=keep)

    @torch.no_grad()
    def prefixes(self, edits: Sequence[Edit], batch: int = 64) -> list[Prefix]:
        """One prefix per edit, in the order given; refined as the configuration says."""
        found: list[Prefix] = []
        for start in range(0, len(edits), batch):
            rows = self([e.statement for e in edits[start : start + batch]])
            lengths = rows.mask.sum(dim=1).tolist()
            found += [
                Prefix(
                    tuple(k[i, :, k.shape[2] - n :].clone() for k in rows.keys),
                    tuple(v[i, :, v.shape[2] - n :].clone() for v in rows.values),
                )
                for i, n in enumerate(lengths)
            ]
        return refined(self.lm, edits, found, self.config.refine) if self.config.refine else found

    def save_pretrained(self, folder: Path) -> None:
        """Write weights (bfloat16) and configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, folder / "generator.safetensors")
        state = {"kind": "self_encoder", "base": self.lm.fingerprint, "config": asdict(self.config)}
        (folder / "generator.json").write_text(json.dumps(state, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path, lm: LanguageModel) -> SelfEncoder:
        """Read a generator back.

        Raises:
            FingerprintMismatch: If it was trained for another base model.
        """
        state = json.loads((folder / "generator.json").read_text())
        if state["base"] != lm.fingerprint:
            raise FingerprintMismatch(
                f"The generator in {folder} was trained for the base model {state['base'][:16]}",
                f"the base model {lm.fingerprint[:16]}",
                "Use the base model it was trained for, train one for this model "
                "(seprog train generator), or leave --generator out for the verbatim one",
            )
        generator = cls(lm, SelfEncoderConfig(**state["config"]))
        weights = load_file(folder / "generator.safetensors")
        generator.load_state_dict({k: v.float() for k, v in weights.items()})
        return generator.requires_grad_(False).to(lm.device)

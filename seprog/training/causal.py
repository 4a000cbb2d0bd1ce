"""Train a small causal language model from nothing: facts to know, and documents to read.

Facts that are not known yet are drawn more often; documents stand in packed rows in which none sees
another. The learning rate falls to 0 more than once, and the model is the mean of the weights it
had each time (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
Generalization"). One that goes on from another may stop on the way there (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models", section 3): it unlearns less of what that one could do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from seprog.data.documents import Document
from seprog.errors import InputError
from seprog.training.compute import Compute
from seprog.training.learner import Learner, under
from seprog.training.muon import Muon
from seprog.training.packing import Rows, pack, prefetch
from seprog.training.run import Run, trapezoid

AGAIN_STEPS = 0.15
"""Share of the steps that each later fall of the learning rate takes."""
AGAIN_RATE = 0.6
"""Where it falls from, relative to the peak."""
COMPILERS = ("c++", "g++", "clang++")
"""Without one of these the layers are not compiled."""


@dataclass(frozen=True)
class CausalTraining(Compute):
    """How a causal model is trained.

    Args:
        vocabulary: Tokens of the tokenizer.
        width: Hidden size; heads are 32 wide.
        layers: Transformer layers.
        steps: Optimizer steps.
        rows: Rows per step.
        length: Tokens per row.
        lr: Peak learning rate.
        decay: Share of the steps before the first end over which the learning rate falls to 0.
        again: Times (0 to 5) that the rate rises once more and falls to 0 again.
        share: How far to go from the model that it starts from, if any, to where training leads
            (0, exclusive, to 1).
        seed: Of data and initial weights.
        compile: Compile the layers where a C++ compiler is found; half as quick again.
    """

    vocabulary: int = 6144
    width: int = 192
    layers: int = 12
    steps: int = 14000
    rows: int = 12
    length: int = 256
    lr: float = 4e-3
    decay: float = 0.7
    again: int = 2
    share: float = 1.0
    seed: int = 0
    threads: int = 2
    compile: bool = True

    def ends(self) -> list[int]:
        """Steps after which the learning rate has fallen to 0, in order."""
        later = round(AGAIN_STEPS * self.steps)
        return [self.steps - later * n for n in reversed(range(self.again + 1))]

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        ends = self.ends()
        if step < ends[0]:
            return self.lr * trapezoid(step, ends[0], 50, self.decay)
        start = max(end for end in ends if end <= step)
        return self.lr * AGAIN_RATE * trapezoid(step - start, ends[1] - ends[0], 50, 1.0)


@runtime_checkable
class Corpus(Protocol):
    """An endless, seeded stream of documents, some of which teach one fact of a list.

    Args:
        weights: How often to draw each fact, relative to the others.
    """

    weights: list[float]

    def __iter__(self) -> Iterator[Document]:
        """Documents, without end."""
        ...


@dataclass
class FactMeter:
    """Running loss of each closed-book fact, so that those not yet known are read more often."""

    loss: Float[Tensor, " facts"]

    def update(self, facts: Tensor, losses: Tensor) -> None:
        """Move each fact's running loss halfway to the mean over its answer's tokens."""
        known = facts >= 0
        facts, losses = facts[known].cpu(), losses[known].float().cpu()
        total = torch.zeros_like(self.loss).index_add_(0, facts, losses)
        count = torch.zeros_like(self.loss).index_add_(0, facts, torch.ones_like(losses))
        seen = count > 0
        self.loss[seen] = 0.5 * self.loss[seen] + 0.5 * total[seen] / count[seen]

    def weights(self) -> list[float]:
        """How often to draw each fact, relative to the others."""
        return (0.1 + self.loss.clamp(max=2.0)).tolist()


def new_model(config: CausalTraining, end: int) -> LlamaForCausalLM:
    """A Llama of the configured size with random weights."""
    torch.manual_seed(config.seed)
    heads = config.width // 32
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=(8 * config.width // 3 + 31) // 32 * 32,
            num_hidden_layers=config.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def grown(model: LlamaForCausalLM, folder: Path) -> LlamaForCausalLM:
    """The model with the weights of a shallower one, computing the same as that did.

    Its layers are spread over the model's; a layer between them starts as a copy of the one before
    that adds nothing yet (Gong et al. 2019, "Efficient Training of BERT by Progressively
    Stacking").

    Raises:
        InputError: If the folder's model is deeper, or differs in width or vocabulary.
    """
    small = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    few, many = small.config.num_hidden_layers, model.config.num_hidden_layers
    same = ("hidden_size", "intermediate_size", "vocab_size")
    if few > many or any(getattr(small.config, k) != getattr(model.config, k) for k in same):
        raise InputError(
            f"A model of {few} layers of {small.config.hidden_size} with "
            f"{small.config.vocab_size} tokens came as the start ({folder})",
            f"at most {many} layers of {model.config.hidden_size} with "
            f"{model.config.vocab_size} tokens",
            "give --layers, --width and --vocabulary to match, or start from nothing",
        )
    model.model.embed_tokens.load_state_dict(small.model.embed_tokens.state_dict())
    model.model.norm.load_state_dict(small.model.norm.state_dict())
    sources = [i * few // many for i in range(many)]
    for i, source in enumerate(sources):
        layer = model.model.layers[i]
        layer.load_state_dict(small.model.layers[source].state_dict())
        if i and sources[i - 1] == source:
            torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
            torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return model


@dataclass
class Mean:
    """The mean of a model's weights at several moments, kept in single precision."""

    weights: dict[str, Tensor]
    count: int = 0

    def add(self, model: torch.nn.Module) -> None:
        """Take in the weights that the model has now."""
        self.count += 1
        for name, value in model.state_dict().items():
            now = value.float().cpu()
            mean = self.weights.setdefault(name, now.clone())
            mean += (now - mean) / self.count


def optimizers(
    model: torch.nn.Module, lr: float, bf16: bool = False
) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in named if not (p.ndim == 2 and "embed" not in n)]
    return {
        "muon": Muon(matrices, lr=lr, dtype=torch.bfloat16 if bf16 else torch.float32),
        "adamw": torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    }


def token_losses(model: LlamaForCausalLM, rows: Rows) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the tokens to learn, and the closed-book fact each belongs to."""
    seen = rows.mask()
    mask = torch.zeros(seen.shape, device=seen.device)
    mask = mask.masked_fill(~seen, torch.finfo(torch.float32).min)
    hidden = model.model(
        input_ids=rows.ids, position_ids=rows.positions, attention_mask=mask, use_cache=False
    ).last_hidden_state
    learn = rows.learn[:, 1:]
    logits = model.lm_head(hidden[:, :-1][learn])
    losses = torch.nn.functional.cross_entropy(logits, rows.ids[:, 1:][learn], reduction="none")
    return losses, rows.facts[:, 1:][learn]


def train_causal(
    out: Path,
    run_folder: Path,
    config: CausalTraining,
    corpus_from: Callable[[int], Corpus],
    tokenizer: PreTrainedTokenizerFast,
    start_from: Path | None = None,
) -> Path:
    """Train a model, or go on with a run that was stopped, and write it.

    Args:
        out: Folder that the finished model and its tokenizer are written to.
        run_folder: Folder for checkpoint and log.
        config: How.
        corpus_from: Given a seed, what to learn.
        tokenizer: Turns documents into tokens.
        start_from: Folder of a model built before, as deep or less, whose weights are taken.

    Returns:
        ``out``.

    Raises:
        InputError: If the model under ``start_from`` does not fit, or the run is of another size.
    """
    config.begin()
    run = Run(run_folder, "model", config.steps)
    end = int(tokenizer.eos_token_id)
    model: Any = new_model(config, end)
    model.to(config.device)
    learner = Learner(model, run.checkpoint, **optimizers(model, config.lr, config.bf16))
    resumed = learner.resume({k: getattr(config, k) for k in ("vocabulary", "width", "layers")})
    if start_from is not None and resumed.step == 0:
        grown(model, start_from)
    origin: dict[str, Tensor] = {}
    if start_from is not None and config.share < 1:
        origin = grown(new_model(config, end), start_from).state_dict()
    corpus = corpus_from(config.seed + resumed.step)
    unknown = torch.full((len(corpus.weights),), 2.0)
    meter = FactMeter(resumed.tensors.get("meter", unknown))
    mean = Mean(under("mean/", resumed.tensors), resumed.state.get("averaged", 0))

    def save(step: int) -> None:
        tensors = {"meter": meter.loss} | {f"mean/{k}": v for k, v in mean.weights.items()}
        learner.save(step, tensors, {"averaged": mean.count, **asdict(config)})

    if config.compile and any(shutil.which(name) for name in COMPILERS):
        model.set_attn_implementation("eager")  # what the compiler joins with what stands around it
        model.model.compile(dynamic=False)

    batches = prefetch(pack(iter(corpus), tokenizer, config.rows, config.length))
    reading: list[float] = []
    for step in run.each_step(resumed.step, save):
        with config.autocast():
            losses, facts = token_losses(model, next(batches).to(config.device))
        lr = config.rate(step)
        learner.step(losses.mean(), lr)
        if step + 1 in config.ends():
            mean.add(model)
        meter.update(facts, losses.detach())
        reading += losses.detach()[facts < 0].tolist()
        if step % 20 == 0:
            corpus.weights = meter.weights()
            known = (meter.loss < 0.1).float().mean().item()
            read = sum(reading) / max(1, len(reading))
            run.report(step, facts=meter.loss.mean().item(), known=known, reading=read, lr=lr)
            reading.clear()
    model.load_state_dict(
        {n: torch.lerp(origin.get(n, w), w, config.share) for n, w in mean.weights.items()}
    )
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    return out

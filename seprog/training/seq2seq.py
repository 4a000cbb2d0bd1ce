"""Train a sequence-to-sequence base model that answers questions, from a sentence encoder.

BART's encoder layer computes what BERT's does, so the encoder starts as the given one; the decoder
starts as some of its layers, and looks at the encoder with their attention, too (Rothe et al.
2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from seprog.batching import batches
from seprog.data.documents import Document
from seprog.training.causal import Corpus, FactMeter
from seprog.training.compute import Compute
from seprog.training.learner import Learner
from seprog.training.run import Run, trapezoid

TOGETHER = 16
"""Questions of like length that are read at once; a batch of them all would be mostly padding."""


@dataclass(frozen=True)
class Seq2SeqTraining(Compute):
    """How a sequence-to-sequence model is trained.

    Args:
        layers: Decoder layers; the encoder has those of the sentence encoder.
        steps: Optimizer steps.
        batch: Questions per step.
        lr: Peak learning rate.
        decay: Share of the steps over which the learning rate falls to 0.
        seed: Of data and of the choice of facts.
    """

    layers: int = 3
    steps: int = 4000
    batch: int = 48
    lr: float = 3e-4
    decay: float = 0.6
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """A question for the encoder, and what the decoder is to write.

    Args:
        text: What was told, if anything, and the question.
        answer: The right answer.
        fact: Index of the fact that is to be known, or -1 if it stands in the text.
    """

    text: str
    answer: str
    fact: int = -1


def tasks(documents: Iterable[Document]) -> Iterator[Task]:
    """Each question of each document, behind what the document tells."""
    for document in documents:
        told: list[str] = []
        question = ""
        for text, is_answer in document.pieces:
            if is_answer:
                answer = text.removesuffix(".")
                yield Task(" ".join([*told, question]), answer, document.fact)
                question = ""
            else:
                told += [question] if question else []
                question = text


def warm_started(encoder: Path, layers: int) -> tuple[Any, PreTrainedTokenizerBase]:
    """A BART whose encoder computes what a BERT does.

    Args:
        encoder: Folder of the BERT.
        layers: Decoder layers (>= 1), spread over the encoder's.

    Returns:
        The model and the encoder's tokenizer, whose ``[SEP]`` closes answers.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    bert: Any = AutoModel.from_pretrained(
        encoder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    c = bert.config
    model: Any = BartForConditionalGeneration(
        BartConfig(
            vocab_size=c.vocab_size,
            d_model=c.hidden_size,
            encoder_layers=c.num_hidden_layers,
            decoder_layers=layers,
            encoder_attention_heads=c.num_attention_heads,
            decoder_attention_heads=c.num_attention_heads,
            encoder_ffn_dim=c.intermediate_size,
            decoder_ffn_dim=c.intermediate_size,
            max_position_embeddings=c.max_position_embeddings,
            activation_function=c.hidden_act,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.bos_token_id,
            forced_eos_token_id=None,
            dropout=0.0,  # facts are to be known by heart
        )
    )
    model.model.shared.load_state_dict(bert.embeddings.word_embeddings.state_dict())
    places, kinds = bert.embeddings.position_embeddings, bert.embeddings.token_type_embeddings
    for half in (model.model.encoder, model.model.decoder):
        with torch.no_grad():
            half.embed_positions.weight[half.embed_positions.offset :] = (
                places.weight + kinds.weight[0]
            )
        half.layernorm_embedding.load_state_dict(bert.embeddings.LayerNorm.state_dict())
    for layer, source in zip(model.model.encoder.layers, bert.encoder.layer, strict=True):
        _take_over(layer, source)
    deep = c.num_hidden_layers
    for i, layer in enumerate(model.model.decoder.layers):
        source = bert.encoder.layer[i * deep // layers]
        _take_over(layer, source)
        _take_over_attention(layer.encoder_attn, source.attention)
        layer.encoder_attn_layer_norm.load_state_dict(
            source.attention.output.LayerNorm.state_dict()
        )
    return model, tokenizer


def _take_over(layer: Any, source: Any) -> None:
    """Self-attention and feed-forward of a BERT layer."""
    _take_over_attention(layer.self_attn, source.attention)
    layer.self_attn_layer_norm.load_state_dict(source.attention.output.LayerNorm.state_dict())
    layer.fc1.load_state_dict(source.intermediate.dense.state_dict())
    layer.fc2.load_state_dict(source.output.dense.state_dict())
    layer.final_layer_norm.load_state_dict(source.output.LayerNorm.state_dict())


def _take_over_attention(attention: Any, source: Any) -> None:
    for name in ("query", "key", "value"):
        whole: nn.Module = getattr(attention, f"{name[0]}_proj")
        whole.load_state_dict(getattr(source.self, name).state_dict())
    attention.out_proj.load_state_dict(source.output.dense.state_dict())


def train_seq2seq(
    encoder: Path,
    out: Path,
    run_folder: Path,
    config: Seq2SeqTraining,
    corpus_from: Callable[[int], Corpus],
) -> Path:
    """Train a model, or go on with a run that was stopped, and write it.

    Args:
        encoder: Folder of the BERT that it starts from.
        out: Folder that the finished model and its tokenizer are written to.
        run_folder: Folder for checkpoint and log.
        config: How.
        corpus_from: Given a seed, what to learn.

    Returns:
        ``out``.

    Raises:
        InputError: If the run in the folder is of another size.
    """
    config.begin()
    torch.manual_seed(config.seed)
    model, tokenizer = warm_started(encoder, config.layers)
    model.to(config.device)
    model.set_attn_implementation("eager")  # a third quicker than sdpa on texts as short as these
    run = Run(run_folder, "model", config.steps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0)
    learner = Learner(model, run.checkpoint, adamw=optimizer)
    resumed = learner.resume({"layers": config.layers})
    corpus = corpus_from(config.seed + resumed.step)
    unknown = torch.full((len(corpus.weights),), 2.0)
    meter = FactMeter(resumed.tensors.get("meter", unknown))

    def save(step: int) -> None:
        learner.save(step, {"meter": meter.loss}, asdict(config))

    asked = tasks(corpus)
    reading: list[float] = []
    model.train()
    for step in run.each_step(resumed.step, save):
        drawn = list(islice(asked, config.batch))
        alike = [
            [drawn[i] for i in rows] for rows in batches([len(t.text) for t in drawn], TOGETHER)
        ]
        part = [task for group in alike for task in group]
        with config.autocast():
            losses = torch.cat([answer_losses(model, tokenizer, group) for group in alike])
        lr = config.lr * trapezoid(step, config.steps, 100, config.decay)
        learner.step(losses.mean(), lr)
        meter.update(torch.tensor([t.fact for t in part]), losses.detach())
        reading += [x for x, t in zip(losses.tolist(), part, strict=True) if t.fact < 0]
        if step % 20 == 0:
            corpus.weights = meter.weights()
            known = (meter.loss < 0.1).float().mean().item()
            read = sum(reading) / max(1, len(reading))
            run.report(step, facts=meter.loss.mean().item(), known=known, reading=read)
            reading.clear()
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    return out


def answer_losses(model: Any, tokenizer: Any, asked: list[Task]) -> Float[Tensor, " batch"]:
    """Mean cross-entropy over each answer's tokens and its end."""
    device = model.device
    read = tokenizer([t.text for t in asked], padding=True, truncation=True, return_tensors="pt")
    read = read.to(device)
    rows = tokenizer([t.answer for t in asked], add_special_tokens=False)["input_ids"]
    rows = [[*row[:32], tokenizer.eos_token_id] for row in rows]
    longest = max(map(len, rows))
    wanted: Int[Tensor, "batch time"] = torch.tensor(
        [[*row, *[tokenizer.pad_token_id] * (longest - len(row))] for row in rows], device=device
    )
    real = torch.tensor([[i < len(row) for i in range(longest)] for row in rows], device=device)
    first = torch.full((len(rows), 1), model.config.decoder_start_token_id, device=device)
    hidden = model.model(
        input_ids=read["input_ids"],
        attention_mask=read["attention_mask"],
        decoder_input_ids=torch.cat([first, wanted[:, :-1]], dim=1),
    )[0]
    losses = torch.nn.functional.cross_entropy(
        model.lm_head(hidden[real]).float(), wanted[real], reduction="none"
    )
    total = torch.zeros(real.shape, device=device).masked_scatter(real, losses)
    return total.sum(dim=1) / real.sum(dim=1)

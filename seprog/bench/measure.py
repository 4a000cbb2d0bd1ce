"""One method on one series of edits: the same steps, whoever edits.

Edits come one after another, in the order of their series, or so many at a time as a method takes;
some are asked about right after they were written, all of them after the last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest
from typing import Any

import torch

from seprog.batching import batches
from seprog.bench.costs import TRIED, percentiles, query_costs
from seprog.bench.course import Series
from seprog.bench.forced import Score, forced_scores
from seprog.bench.meters import PeakMemory, editing, perplexity
from seprog.bench.metrics import OUT_OF_SCOPE, Record
from seprog.bench.progress import watch
from seprog.bench.trials import BaseSays, Question
from seprog.lm import CausalLM, LanguageModel
from seprog.methods import EditMethod
from seprog.methods.contract import LONGEST_ANSWER, Forced
from seprog.types import Example

QUERIES = 30
"""Questions in scope, and out of it, whose time is taken."""
ASIDE = 100
"""Far questions that perplexity is taken over, at most."""
AT_ONCE = 64
"""Questions that are asked together."""
COMPARED = 31
"""Far questions whose logits are compared together, beside one in scope."""

Costs = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Said:
    """What a method said to a question.

    Args:
        answer: The answer.
        chosen: What of the method's memory applied.
        fired: The statements of the edits in it; ``None`` where edits are not chosen.
    """

    answer: str
    chosen: Any
    fired: tuple[str, ...] | None


def run(
    method: EditMethod,
    at_once: int,
    what: Series,
    base_says: BaseSays,
    progress: bool = False,
    queries: int = QUERIES,
) -> tuple[list[Record], Costs]:
    """Edit with a method and ask; the base model is as before when this returns.

    Args:
        method: Without edits.
        at_once: Edits at a time; 0 means all of them.
        what: The edits, and what is asked.
        base_says: The unedited base model's answers.
        progress: Whether to show a progress bar.
        queries: Questions in scope, and out of it, whose time is taken, at most; 0 measures no
            queries, nor their memory.

    Returns:
        Every answer, and what edits and queries cost.
    """
    questions, edits = what.questions, what.edits
    early = [q for asked in what.early.values() for q in asked]
    base = _by_base(base_says, [*questions, *early, *what.later])
    far = [q for q in questions if q.kind == "far"]
    beside = [q for q in questions if q.needed][:1]
    aside = [(q.text, base[q]) for q in far if base[q]][:ASIDE]
    aside = aside if isinstance(method.lm, CausalLM) else []
    adapter: Any = type(method.lm)
    plain = adapter(deepcopy(method.lm.model), method.lm.tokenizer) if queries else None
    logits, before = _digests(method, far, beside), _perplexity(method, aside)
    said: dict[Question, Said] = {}
    step, seconds = at_once or len(edits), []
    for start in watch(range(0, len(edits), step), f"{method.name}: edits", progress):
        part = edits[start : start + step]
        began = time.perf_counter()
        method.apply(part)
        seconds += [(time.perf_counter() - began) / len(part)] * len(part)
        said |= _ask(method, [q for request in part for q in what.early.get(request, ())])
    one_by_one = step == 1 or len(edits) == 1
    found = _records(method, what, "right_after", base, said) if one_by_one else []
    after = _ask(method, questions)
    same = {q: d == logits[q] for q, d in _digests(method, far, beside, after).items()}
    scores = _forced(method, questions, after)
    found += _records(method, what, "after_all", base, after, same, scores, at_once)
    costs: Costs = {
        "ms_per_edit": percentiles([1000 * s for s in seconds], mean=True),
        "bytes_per_edit": {"value": method.bytes_kept() / len(edits), "n": len(edits)},
    }
    if aside:
        ratio = _perplexity(method, aside) / before
        costs["perplexity_ratio"] = {"value": ratio, "n": len(aside)}
    if plain is not None:
        costs |= _query_costs(method, plain, questions, after, queries)
    for newer in zip_longest(*what.replaced.values()):
        method.apply([request for request in newer if request is not None])
    for request in what.taken if method.forgets else ():
        method.forget(request)
    later = [q for q in what.later if method.forgets or q.kind != "forgotten"]
    found += _records(method, what, "after_changes", base, _ask(method, later))
    method.revert()
    return found, costs


def first_edits(method: EditMethod, at_once: int, what: Series) -> Costs:
    """Arithmetic and memory of the first edits; the base model is as before when this returns."""
    requests = what.edits[:TRIED]

    def write() -> None:
        step = at_once or len(requests)
        for start in range(0, len(requests), step):
            method.apply(requests[start : start + step])

    found = editing(write, len(requests), method.lm.device)
    method.revert()
    return found


def _by_base(base_says: BaseSays, questions: Sequence[Question]) -> dict[Question, str]:
    said = base_says([q.text for q in questions])
    return dict(zip(questions, said, strict=True))


def _ask(method: EditMethod, questions: Sequence[Question]) -> dict[Question, Said]:
    """Answers to questions; those of similar scope and length run together."""
    method.needed = {q.text: q.needed for q in questions if q.needed}
    texts = [q.text for q in questions]
    chosen: list[Any] = []
    for start in range(0, len(texts), AT_ONCE):
        chosen += method.chosen(texts[start : start + AT_ONCE])
    fired = [method.statements(entry) for entry in chosen]
    sizes = [(len(f or ()), len(t)) for f, t in zip(fired, texts, strict=True)]
    found: dict[int, Said] = {}
    for rows in batches(sizes, AT_ONCE):
        answers = method.answer([texts[i] for i in rows], [chosen[i] for i in rows])
        found |= {i: Said(a, chosen[i], fired[i]) for i, a in zip(rows, answers, strict=True)}
    return {q: found[i] for i, q in enumerate(questions)}


def _records(
    method: EditMethod,
    what: Series,
    when: str,
    base: Mapping[Question, str],
    said: Mapping[Question, Said],
    same: Mapping[Question, bool] | None = None,
    forced: Mapping[Question, Score] | None = None,
    at_once: int = 0,
) -> list[Record]:
    scores = dict.fromkeys(said, (None, None)) | dict(forced or {})
    return [
        Record(
            method.name,
            what.size,
            when,
            question.kind,
            question.text,
            base[question] if question.answer is None else question.answer,
            told.answer,
            question.needed,
            told.fired,
            (same or {}).get(question),
            age=what.age(question) if when == "after_all" and what.size > at_once > 0 else None,
            teacher_forced=scores[question][0],
            likelier=scores[question][1],
            accepted=question.accepted,
        )
        for question, told in said.items()
    ]


def _forced(
    method: EditMethod, questions: Sequence[Question], said: Mapping[Question, Said]
) -> dict[Question, Score]:
    """Teacher-forced scores of questions, where there are answers to compare."""

    def fare(rows: Sequence[int], answers: Sequence[str]) -> list[Forced]:
        told = [Example((), questions[i].text, a) for i, a in zip(rows, answers, strict=True)]
        return method.forced(told, [said[questions[i]].chosen for i in rows])

    scores = forced_scores([q.compared for q in questions], fare)
    return dict(zip(questions, scores, strict=True))


@torch.no_grad()
def _digests(
    method: EditMethod,
    far: Sequence[Question],
    beside: Sequence[Question],
    said: Mapping[Question, Said] | None = None,
) -> dict[Question, bytes]:
    """Per far question, what tells its logits from others, in batches that are always the same.

    Args:
        method: As it is now.
        far: The questions.
        beside: One in scope, which stands in every batch.
        said: What applies to them; ``None`` where nothing is in force.
    """
    found: dict[Question, bytes] = {}
    for start in range(0, len(far), COMPARED):
        part = far[start : start + COMPARED]
        rows = [*part, *beside]
        chosen = [said[q].chosen if said else None for q in rows]
        logits = method.logits([q.text for q in rows], chosen).float().cpu()
        for question, row in zip(part, logits[: len(part)], strict=True):
            found[question] = sha256(row.contiguous().numpy().tobytes()).digest()
    return found


@torch.no_grad()
def _perplexity(method: EditMethod, said: Sequence[tuple[str, str]]) -> float:
    """Of what is said to prompts, for the model as it is now (>= 1); 1 of nothing."""
    return perplexity(method.lm, said, method.logits) if said else 1.0


def _query_costs(
    method: EditMethod,
    plain: LanguageModel,
    questions: Sequence[Question],
    said: Mapping[Question, Said],
    most: int,
) -> Costs:
    """What questions take one by one, in scope and out of it, and what is read of the former.

    Args:
        method: With its edits in force.
        plain: An unedited copy of the base model.
        questions: Some of them are asked.
        said: What applies to them.
        most: So many of either are timed, at most.
    """

    def base(question: Question) -> list[str]:
        return plain.reply([question.text], max_new_tokens=LONGEST_ANSWER)

    def ask(question: Question) -> list[str]:
        return method.answer([question.text])

    inside = [q for q in questions if q.kind not in OUT_OF_SCOPE]
    pools = {"in_scope": inside, "out_of_scope": [q for q in questions if q.kind in OUT_OF_SCOPE]}
    evenly = {name: pool[:: max(1, len(pool) // most)][:most] for name, pool in pools.items()}
    costs = query_costs(evenly, base, ask, [plain, *method.models])
    if inside:
        read = method.texts([q.text for q in inside], [said[q].chosen for q in inside])
        sizes = [len(ids) for ids in method.lm.tokens.encode(read, True)]
        costs["query_tokens_in_scope"] = {"value": sum(sizes) / len(sizes), "n": len(sizes)}
    with PeakMemory(method.lm.device) as answering:
        method.answer([q.text for q in questions[:TRIED]])
    return costs | {"peak_bytes_answering": {"value": answering.bytes, "n": TRIED}}

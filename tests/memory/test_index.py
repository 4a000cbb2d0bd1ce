import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seprog.errors import InputError
from seprog.memory import Memory, VectorIndex, make_edit

D = 6


def vectors(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, D)).astype(np.float32)


def names(count, start=0):
    return [f"id{number:03}" for number in range(start, start + count)]


def by_hand(table, queries, k):
    found = []
    for query in queries:
        cosines = {
            id: float(key @ query / np.linalg.norm(key) / np.linalg.norm(query))
            for id, key in table.items()
        }
        found.append(sorted(cosines.items(), key=lambda pair: (-pair[1], pair[0]))[:k])
    return found


def agree(found, expected):
    for row, wanted in zip(found, expected, strict=True):
        assert [id for id, _ in row] == [id for id, _ in wanted]
        assert np.allclose([s for _, s in row], [s for _, s in wanted], atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 25), st.integers(1, 8)), max_size=12))
def test_it_finds_what_a_plain_loop_finds(steps):
    index, table = VectorIndex(), {}
    for seed, (adding, start, count) in enumerate(steps):
        if adding:
            index.add(names(count, start), keys := vectors(count, seed))
            table |= dict(zip(names(count, start), keys, strict=True))
        else:
            index.remove(names(count, start))
            table = {id: key for id, key in table.items() if id not in names(count, start)}
        assert len(index) == len(table) and all(id in index for id in table)
    queries = vectors(3, 99)
    for k in (1, 4, 100):
        agree(index.search(queries, k), by_hand(table, queries, k))


def test_an_index_rebuilt_from_the_store_finds_the_same(path):
    index = VectorIndex()
    with Memory(path) as memory:
        edits = memory.add_many([make_edit(f"Fact {i}.") for i in range(40)])
        ids, keys = [edit.id for edit in edits], vectors(40).astype(np.float16).astype(np.float32)
        memory.put_keys("enc", ids, keys)
        index.add(ids, keys)
        for edit in edits[::3]:
            memory.forget(edit.id)
        index.remove(ids[::3])
    rebuilt = VectorIndex()
    with Memory(path) as memory:
        rebuilt.add(*memory.get_keys("enc", ids))
    queries = vectors(5, 1)
    assert len(rebuilt) == len(index)
    agree(rebuilt.search(queries, 7), index.search(queries, 7))


def test_equal_vectors_come_in_the_order_of_their_ids():
    index = VectorIndex()
    index.add(names(9)[::-1], np.ones((9, D), dtype=np.float32))
    found = index.search(np.ones((1, D), dtype=np.float32), 4)[0]
    assert [id for id, _ in found] == names(4)
    assert found[0][1] == pytest.approx(1.0)


def test_edges():
    index = VectorIndex()
    assert index.search(vectors(2), 3) == [[], []]
    index.remove(["nothing"])
    index.add([], vectors(0))
    index.add(["zero"], np.zeros((1, D), dtype=np.float32))
    assert index.search(vectors(1), 3) == [[("zero", 0.0)]]
    index.remove(["zero"])
    index.add(["wider"], np.ones((1, D + 1), dtype=np.float64))  # empty, so any width will do
    assert len(index) == 1 and "zero" not in index


def test_what_does_not_fit_is_refused():
    index = VectorIndex()
    index.add(names(2), vectors(2))
    bad = vectors(1)
    bad[0, 0] = np.nan
    for call in (
        lambda: index.search(vectors(1), 0),
        lambda: index.search(vectors(1)[:, :3], 1),
        lambda: index.search(bad, 1),
        lambda: index.add(names(2), vectors(1)),
        lambda: index.add(["x"], vectors(1)[:, :3]),
        lambda: index.add(["x"], bad),
    ):
        with pytest.raises(InputError):
            call()
    assert len(index) == 2

import numpy as np
import pytest
import torch

from seprog.errors import InputError, MemoryFileError, UnknownEdit
from seprog.memory import Memory, make_edit
from seprog.memory.codec import decode_prefix, encode_prefix
from seprog.types import Prefix


def facts(memory, count, namespace="default"):
    edits = [make_edit(f"{namespace} {i}.", namespace=namespace) for i in range(count)]
    return [edit.id for edit in memory.add_many(edits)]


def unit_rows(n, d=8, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def prefix(dtype=torch.float32, sites=12, length=3):
    def tensors():
        return tuple(torch.randn(2, length, 4).to(dtype) for _ in range(sites))

    return Prefix(tensors(), tensors())


def same(a, b):
    pairs = zip(a.keys + a.values, b.keys + b.values, strict=True)
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def test_keys_come_back_in_order(memory):
    ids, keys = facts(memory, 5), unit_rows(5)
    assert memory.get_keys("enc", ids)[1].shape == (0, 0)
    memory.put_keys("enc", ids[::-1], keys[::-1])
    found, matrix = memory.get_keys("enc", [*ids[::-1], "unknown"])
    assert found == ids and matrix.dtype == np.float32
    assert np.allclose(matrix, keys, atol=1e-3)
    assert memory.get_keys("enc", ids[2:3])[0] == ids[2:3]
    assert memory.get_keys("other", ids)[0] == memory.get_keys("enc", [])[0] == []


def test_keys_follow_the_edits(memory):
    ids = facts(memory, 5)
    memory.put_keys("enc", ids[:1], unit_rows(1))
    assert memory.get_keys("enc", ids)[0] == ids[:1]
    memory.forget(ids[0])
    memory.restore(ids[0])
    assert memory.get_keys("enc", ids)[0] == []
    memory.forget(ids[1])
    memory.put_keys("enc", ids, unit_rows(5))  # the forgotten one is passed over
    assert memory.get_keys("enc", ids)[0] == [ids[0], *ids[2:]]


def test_keys_that_do_not_fit(memory):
    ids = facts(memory, 2)
    memory.put_keys("enc", ids, unit_rows(2, 8))
    with pytest.raises(InputError, match="8, like those"):
        memory.put_keys("enc", ids, unit_rows(2, 9))
    with pytest.raises(InputError, match="2 ids came with 1"):
        memory.put_keys("enc", ids, unit_rows(1))
    for bad in (np.nan, 1e9):
        with pytest.raises(InputError, match="finite"):
            memory.put_keys("enc", ids[:1], np.full((1, 8), bad, dtype=np.float32))
    with pytest.raises(UnknownEdit):
        memory.put_keys("enc", [ids[0], "nothing"], unit_rows(2))
    memory.put_keys("enc", [], np.zeros((0, 5), dtype=np.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_prefixes_come_back_bit_for_bit(memory, dtype):
    ids = facts(memory, 2)
    one, two = prefix(dtype), prefix(dtype, length=16)
    memory.put_prefixes("gen", ids, [one, two])
    found = memory.get_prefixes("gen", [*ids, "unknown"])
    assert list(found) == ids and same(found[ids[0]], one) and same(found[ids[1]], two)
    assert memory.get_prefixes("other", ids) == {}
    assert memory.prefix_bytes("gen") > 0 == memory.prefix_bytes("other")


def test_prefixes_that_are_views_or_need_gradients():
    batch = torch.randn(2, 2, 3, 4, requires_grad=True)
    views = Prefix((batch[0], batch[1]), (batch[0], batch[1].transpose(0, 0)))
    assert same(decode_prefix(encode_prefix(views)), views)


def test_bytes_that_are_no_prefix_count_as_missing(memory):
    ids = facts(memory, 3)
    memory.put_prefixes("gen", ids, [prefix()] * 3)
    with memory._database.writing() as connection:
        connection.execute("UPDATE prefixes SET value = x'00' WHERE edit = 1")
        connection.execute("UPDATE prefixes SET value = substr(value, 1, 500) WHERE edit = 2")
    assert list(memory.get_prefixes("gen", ids)) == ids[2:]
    assert decode_prefix(b"") is None


def test_caches_can_be_dropped(memory):
    ids = facts(memory, 2)
    for name in ("a", "b"):
        memory.put_keys(name, ids, unit_rows(2))
        memory.put_prefixes(name, ids, [prefix(), prefix()])
    memory.drop_caches("a")
    assert memory.get_keys("a", ids)[0] == [] and memory.get_keys("b", ids)[0] == ids
    memory.drop_caches()
    assert memory.prefix_bytes("b") == 0 and memory.count() == 2


def test_a_superseded_edit_loses_its_caches(memory):
    old = memory.add(make_edit(prompt="Cats", target="bark"))
    memory.put_prefixes("gen", [old.id], [prefix()])
    memory.add(make_edit(prompt="Cats", target="meow"))
    assert memory.prefix_bytes("gen") == 0 and memory.get_prefixes("gen", [old.id]) == {}


def test_a_read_only_memory_keeps_no_caches(path):
    with Memory(path) as memory:
        ids = facts(memory, 1)
    with Memory(path, read_only=True) as memory:
        memory.put_keys("enc", ids, unit_rows(1))
        memory.put_prefixes("gen", ids, [prefix()])
        assert memory.get_keys("enc", ids)[0] == [] and memory.prefix_bytes("gen") == 0


def test_caches_do_not_change_the_revision(memory):
    ids = facts(memory, 1)
    before = memory.revision()
    memory.put_keys("enc", ids, unit_rows(1))
    memory.set_meta("a", 1)
    assert memory.revision() == before


def test_meta(memory):
    assert memory.get_meta("gate") is None
    for value in ({"threshold": 0.25, "n": [1, 2]}, "ä\ud800", None, 0):
        memory.set_meta("gate", value)
        assert memory.get_meta("gate") == value
    for bad in (object(), float("nan"), {1, 2}):
        with pytest.raises(InputError, match="gate"):
            memory.set_meta("gate", bad)
    memory.close()
    with pytest.raises(MemoryFileError):
        memory.get_meta("gate")


def test_metas_are_found_by_how_their_names_start_and_dropped(memory):
    for name in ("key/b", "key/a", "keys", "other"):
        memory.set_meta(name, {"of": name})
    assert memory.metas("key/") == {"key/a": {"of": "key/a"}, "key/b": {"of": "key/b"}}
    assert memory.drop_meta("key/a")
    assert not memory.drop_meta("key/a")
    assert list(memory.metas("key/")) == ["key/b"]

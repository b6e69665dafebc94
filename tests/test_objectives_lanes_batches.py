"""The order of batches, a function of the data seed and the data epoch alone."""

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.lanes.batches import batch_order
from objectives.relation_cnn import RelationCnn


def lengths_of(num_examples: int) -> npt.NDArray[np.int64]:
    return np.arange(num_examples) * 7 % 13 + 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    num_examples=st.integers(1, 700),
    batch_size=st.integers(1, 60),
    data_seed=st.integers(0, 2**63 - 1),
    data_epoch=st.integers(1, 1000),
    has_lengths=st.booleans(),
)
def test_every_example_stands_in_one_batch(
    num_examples: int, batch_size: int, data_seed: int, data_epoch: int, has_lengths: bool
) -> None:
    batches = batch_order(
        data_seed,
        data_epoch,
        num_examples=num_examples,
        batch_size=batch_size,
        lengths=lengths_of(num_examples) if has_lengths else None,
    )
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_examples))
    sizes = sorted(len(batch) for batch in batches)
    full, rest = divmod(num_examples, batch_size)
    if rest == 1 and full > 0:  # a single example joins the batch before
        assert sizes == [batch_size] * (full - 1) + [batch_size + 1]
    else:
        assert sizes == ([rest] if rest else []) + [batch_size] * full


def test_last_batch_without_lengths_is_the_smaller_one() -> None:
    batches = batch_order(7, 3, num_examples=103, batch_size=10)
    assert [len(batch) for batch in batches] == [10] * 10 + [3]


def test_order_depends_on_data_seed_and_data_epoch_alone() -> None:
    def order(data_seed: int, data_epoch: int) -> list[int]:
        batches = batch_order(
            data_seed, data_epoch, num_examples=103, batch_size=10, lengths=lengths_of(103)
        )
        return [int(i) for i in np.concatenate(batches)]

    before = order(7, 3)
    np.random.default_rng().random(5)
    torch.rand(5)
    assert order(7, 3) == before
    assert order(7, 4) != before
    assert order(8, 3) != before
    assert order(3, 7) != before


def test_order_is_pinned() -> None:
    # A change of these changes every result that was ever recorded.
    plain = batch_order(7, 3, num_examples=103, batch_size=10)
    assert plain[0].tolist() == [77, 63, 82, 30, 21, 91, 11, 42, 97, 13]
    bucketed = batch_order(7, 3, num_examples=103, batch_size=10, lengths=np.arange(103) % 13 + 1)
    assert bucketed[0].tolist() == [25, 64, 12]


def test_alike_lengths_share_a_batch_and_epochs_group_differently() -> None:
    lengths = RelationCnn().load(None).train.lengths
    assert lengths is not None
    groups = []
    for epoch in (1, 2):
        batches = batch_order(0, epoch, num_examples=len(lengths), batch_size=50, lengths=lengths)
        computed = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
        # Measured: 2.7 %. Shuffled without pools: more than half is padding.
        assert 1 - lengths.sum() / computed < 0.15
        means = [float(lengths[batch].mean()) for batch in batches]
        # The batches themselves are shuffled: short and long ones take turns.
        assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2
        groups.append({frozenset(batch.tolist()) for batch in batches})
    assert not groups[0] & groups[1]

"""TensorDict and the exact mean."""

import copy

import pytest
import torch

from fedvlm_hf.tensors import TensorDict, WeightedMean


def tensors(*values: float) -> TensorDict:
    return TensorDict.from_tensors({"w": torch.tensor(values)})


def mean_of(pairs: list[tuple[TensorDict, int]]) -> TensorDict:
    mean = WeightedMean()
    for update, weight in pairs:
        mean.add(update, weight)
    return mean.result()


def test_views_share_one_flat_buffer():
    both = TensorDict.from_tensors({"a": torch.ones(2, 2), "b": torch.zeros(3)})
    both["b"][1] = 7
    assert both.flat.tolist() == [1, 1, 1, 1, 0, 7, 0]
    both.flat.mul_(2)
    assert both["a"].tolist() == [[2, 2], [2, 2]]
    assert both.nbytes == 28


def test_from_tensors_copies_and_casts():
    source = torch.ones(2, dtype=torch.bfloat16)
    copied = TensorDict.from_tensors({"a": source})
    source.zero_()
    assert copied["a"].dtype == torch.float32
    assert copied["a"].tolist() == [1, 1]


def test_a_buffer_of_the_wrong_size_or_dtype_is_refused():
    with pytest.raises(ValueError, match="2 elements"):
        TensorDict({"a": torch.Size([2])}, torch.zeros(3))
    with pytest.raises(ValueError, match="float64"):
        TensorDict({"a": torch.Size([2])}, torch.zeros(2, dtype=torch.float64))


def test_digest_sees_names_shapes_order_and_bits():
    a, b = torch.zeros(2), torch.zeros(2)
    digests = {
        TensorDict.from_tensors({"a": a, "b": b}).digest(),
        TensorDict.from_tensors({"b": b, "a": a}).digest(),
        TensorDict.from_tensors({"a": a.view(1, 2), "b": b}).digest(),
        TensorDict.from_tensors({"a": -a, "b": b}).digest(),  # -0.0 has other bits than 0.0
    }
    assert len(digests) == 4
    assert tensors(1, 2).digest() == tensors(1, 2).clone().digest()


def test_mean_by_hand():
    """(1 * 1 + 3 * 5) / 4 = 4 and (1 * 2 + 3 * 0) / 4 = 0.5."""
    assert mean_of([(tensors(1, 2), 1), (tensors(5, 0), 3)])["w"].tolist() == [4.0, 0.5]


def test_one_client_and_identical_clients_give_their_own_bits():
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    client = TensorDict.from_tensors({"w": values})
    assert torch.equal(mean_of([(client, 977)])["w"], values)
    assert torch.equal(mean_of([(client, 1088), (client, 999), (client, 977)])["w"], values)


def test_a_mean_of_fp32_deltas_would_not_give_them():
    """The trap that the mean over weights avoids: w0 + (w1 - w0) is not w1 in fp32."""
    generator = torch.Generator().manual_seed(0)
    start, after = (torch.randn(100_000, generator=generator) for _ in range(2))
    assert not torch.equal(start + (after - start), after)


def test_order_of_clients_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    clients = [(TensorDict.from_tensors({"w": torch.randn(10_000, generator=generator)}), n) for n in (3, 1700, 42)]
    assert torch.equal(mean_of(clients)["w"], mean_of(clients[::-1])["w"])


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), True])
def test_weights_are_positive_numbers(weight):
    with pytest.raises(ValueError, match="positive, finite number"):
        WeightedMean().add(tensors(1), weight)


@pytest.mark.parametrize("num_clients", [1, 2, 7])
def test_real_weights_give_identical_clients_their_own_bits(num_clients):
    """w x / w in fp64 is within 2^-52 of x, far below half a unit of fp32."""
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    mean = WeightedMean()
    for index in range(num_clients):
        mean.add(TensorDict.from_tensors({"w": values}), 0.1 + index / 3)
    assert torch.equal(mean.result()["w"], values)


def test_the_sum_by_hand():
    """1 * 1 + 2 * 4 = 9, and with real weights 0.5 * 1 + 1.5 * 4 = 6.5; the mean of the latter is 6.5 / 2 = 3.25."""
    for weights, total, average in (((1, 2), 9.0, 3.0), ((0.5, 1.5), 6.5, 3.25)):
        mean = WeightedMean()
        for value, weight in zip((1.0, 4.0), weights, strict=True):
            mean.add(tensors(value), weight)
        assert (mean.sum()["w"].item(), mean.result()["w"].item()) == (total, average)


def test_another_layout_is_refused():
    """The flat buffers would be summed element by element, whatever their names."""
    mean = WeightedMean()
    mean.add(TensorDict.from_tensors({"a": torch.zeros(1), "b": torch.ones(1)}), 1)
    with pytest.raises(ValueError, match="order"):
        mean.add(TensorDict.from_tensors({"b": torch.ones(1), "a": torch.zeros(1)}), 1)


def test_an_empty_round_is_refused():
    with pytest.raises(ValueError, match="empty"):
        WeightedMean().result()


@pytest.mark.parametrize("numel", [1, 7, 100])
def test_sums_in_blocks_are_the_sums(numel, monkeypatch):
    """Blocks of 7: a whole one, several and a rest of 2. Beside it the formula, in fp64 and rounded once."""
    monkeypatch.setattr(WeightedMean, "block_size", 7)
    generator = torch.Generator().manual_seed(0)
    clients = [(TensorDict.from_tensors({"w": torch.randn(numel, generator=generator)}), n) for n in (3, 1700, 42)]
    expected = (sum(n * client.flat.double() for client, n in clients) / 1745).float()
    assert torch.equal(mean_of(clients).flat, expected)


def test_the_sign_of_zero_is_one_of_a_clients_bits():
    zeros = tensors(-0.0, 0.0)
    assert mean_of([(zeros, 3)]).digest() == zeros.digest()
    assert mean_of([(zeros, 3), (zeros, 5)]).digest() == zeros.digest()


def test_a_mean_is_made_anew_and_the_sum_can_go_on():
    mean = WeightedMean()
    mean.add(tensors(1.0), 1)
    first = mean.result()
    mean.add(tensors(4.0), 2)
    assert (first["w"].item(), mean.result()["w"].item()) == (1.0, 3.0)


def test_from_tensors_of_strided_empty_and_mixed_tensors():
    """Transposed [[0, 1], [2, 3]] is 0, 2, 1, 3."""
    mixed = {
        "t": torch.arange(4.0).view(2, 2).T,
        "none": torch.zeros(0, 3),
        "half": torch.tensor(0.5, dtype=torch.bfloat16),
    }
    copied = TensorDict.from_tensors(mixed)
    assert copied.flat.tolist() == [0.0, 2.0, 1.0, 3.0, 0.5]
    assert copied["t"].tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert dict(copied.shapes) == {"t": (2, 2), "none": (0, 3), "half": ()}
    assert TensorDict.from_tensors({}).flat.tolist() == []


def test_a_deep_copy_has_a_buffer_of_its_own():
    tensors = TensorDict.from_tensors({"w": torch.tensor([1.0])})
    other = copy.deepcopy({"knob": tensors})["knob"]
    other["w"].zero_()
    assert (tensors["w"].item(), other.shapes) == (1.0, tensors.shapes)

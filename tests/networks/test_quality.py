"""The quality network's input and score, and that only training knows of it."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from pick_fakes import small_network
from torch import Tensor, nn

from monai_noisylabel.networks import JudgedOutput, QualityAwareNetwork, QualityNetwork, SelfCleansingNet

SPACES = [(17, 24), (9, 12, 8)]


def seen_by(quality: QualityNetwork, image: Tensor, label: Tensor) -> Tensor:
    """What the first convolution of a quality network gets."""
    seen: list[Tensor] = []
    handle = quality.features[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    quality(image, label)
    handle.remove()
    return seen[0]


def test_multi_class_labels_are_one_hot_beside_the_image() -> None:
    quality = QualityNetwork(2, 2, 3, channels=(4,))
    image, label = torch.rand(1, 2, 2, 2), torch.tensor([[[[0, 1], [2, 1]]]], dtype=torch.uint8)
    expected = [[[1, 0], [0, 0]], [[0, 1], [0, 1]], [[0, 0], [1, 0]]]
    torch.testing.assert_close(seen_by(quality, image, label), torch.cat([image, torch.tensor([expected]).float()], 1))


def test_structures_that_overlap_are_their_own_channels() -> None:
    quality = QualityNetwork(2, 1, 2, multi_label=True, channels=(4,))
    image, label = torch.rand(1, 1, 1, 2), torch.tensor([[[[1, 0]], [[255, 255]]]], dtype=torch.uint8)
    expected = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    torch.testing.assert_close(seen_by(quality, image, label), torch.cat([image, expected], 1))


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("norm", [None, "instance", ("group", {"num_groups": 2})])
def test_score_is_the_mean_of_the_last_map_and_each_samples_own(space: tuple[int, ...], norm: str | None) -> None:
    torch.manual_seed(0)
    quality = QualityNetwork(len(space), 1, 3, channels=(4, 8), norm=norm)
    image, label = torch.rand(3, 1, *space), torch.randint(0, 3, (3, 1, *space))
    scores = quality(image, label)
    assert scores.shape == (3,)
    features = quality.features(seen_by(quality, image, label))
    assert features.shape[2:] == tuple(-(-size // 4) for size in space)
    torch.testing.assert_close(scores, quality.score(features).flatten(1).mean(1))
    alone = torch.cat([quality(image[n : n + 1], label[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-6)
    assert scores.unique().numel() == 3


def test_a_label_changes_the_score_but_not_the_logits() -> None:
    network = small_network()
    image, label = torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    outputs = [network(image, label=part) for part in (label, label + 1)]
    assert isinstance(outputs[0], JudgedOutput)
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits)
    assert not torch.isclose(outputs[0].quality, outputs[1].quality).any()


def test_in_evaluation_it_is_the_plain_network() -> None:
    plain = SelfCleansingNet(2, 1, 3, channels=(4, 4, 8, 8))
    network = QualityAwareNetwork(plain, QualityNetwork(2, 1, 3)).eval()
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(network(image), plain(image))
    assert network.network is plain
    assert not plain.training
    assert plain.state_dict().keys() == {n.removeprefix("network.") for n in network.state_dict() if "quality" not in n}


def test_meta_tensors_give_plain_scores() -> None:
    output = small_network()(MetaTensor(torch.rand(2, 1, 8, 8)), label=MetaTensor(torch.ones(2, 1, 8, 8)))
    assert type(output.quality) is Tensor


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="channels must name the width of one convolution"):
        QualityNetwork(2, 1, 3, channels=())
    with pytest.raises(
        ValueError, match=r"image \(2, 1, 8, 8\) belongs a label of the form \(2, 1, 8, 8\), got \(2, 3"
    ):
        QualityNetwork(2, 1, 3)(torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"belongs a label of the form \(2, 3, 8, 8\), got \(2, 1"):
        QualityNetwork(2, 1, 3, multi_label=True)(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="PrepareBatchExtraInput"):
        QualityAwareNetwork(nn.Conv2d(1, 2, 1), QualityNetwork(2, 1, 2))(torch.zeros(2, 1, 8, 8))

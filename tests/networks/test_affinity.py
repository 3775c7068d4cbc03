"""Affinity features, reasoning in linear time, and the network that gives both while it trains."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, SegResNet
from reference.affinity_pairs import dense_reasoning
from torch import Tensor, nn

from monai_noisylabel.networks import AffinityNetwork, SelfCleansingNet, affinity_reasoning, unit_features

SHAPES = {
    "logits": (2, 3, 20, 26),
    "refined": (2, 3, 20, 26),
    "features": (2, 1, 8, 5, 7),
    "shallow_logits": (2, 3, 20, 26),
    "shallow_refined": (2, 3, 20, 26),
    "shallow_features": (2, 1, 16, 5, 7),
}


def small(dims: int = 2, classes: int = 3, multi_label: bool = False, cell: int = 4) -> AffinityNetwork:
    torch.manual_seed(0)
    net = SelfCleansingNet(dims, 1, classes, channels=(4, 8, 8, 8))
    layers = net.feature_layer, net.shallow_feature_layer
    form = {"spatial_dims": dims, "in_channels": 1, "out_channels": classes}
    return AffinityNetwork(net, *layers, **form, multi_label=multi_label, cell=cell)


def vectors(shape: tuple[int, ...], spread: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors (n, d, N), the nearer to each other the smaller the spread."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return nn.functional.normalize((1 + spread * noise).relu(), dim=1)


class TestUnitFeatures:
    def test_cells_are_averaged_after_the_rectifier(self) -> None:
        features = torch.tensor([[[3.0, -9.0, 0.0, 0.0], [2.0, 0.0, 0.0, -1.0]]])
        # means of the halves: (3 / 2, 2 / 2) and (0, 0)
        expected = torch.tensor([[1.5, 0.0], [1.0, 0.0]]) / torch.tensor([1.5, 1.0]).norm()
        torch.testing.assert_close(unit_features(features, [2])[0, 0], expected)

    def test_channels_are_dealt_out_in_turn(self) -> None:
        features = torch.tensor([3.0, 1.0, 4.0, 2.0, 5.0]).view(1, 5, 1, 1)
        groups = unit_features(features, [1, 1], groups=2)[0, :, :, 0, 0]
        torch.testing.assert_close(
            groups, torch.tensor([[3.0, 4.0, 5.0], [1.0, 2.0, 0.0]]) / torch.tensor([[50**0.5], [5**0.5]])
        )

    def test_each_structure_needs_a_channel(self) -> None:
        with pytest.raises(ValueError, match="layer's 2 channels are too few for 3 structures"):
            unit_features(torch.ones(1, 2, 4, 4), [2, 2], groups=3)


class TestReasoning:
    @pytest.mark.parametrize("spread", [1.0, 1e-2], ids=["set apart", "nearly alike"])
    def test_linear_form_equals_the_dense_one(self, spread: float) -> None:
        features = vectors((2, 8, 300), spread)
        values = torch.randn(2, 4, 300, generator=torch.Generator().manual_seed(1))
        exact = dense_reasoning(values.double(), nn.functional.normalize(features.double(), dim=1).mT)
        torch.testing.assert_close(affinity_reasoning(values, features).double(), exact, rtol=1e-5, atol=1e-5)

    def test_gradients_equal_the_dense_ones(self) -> None:
        raw = torch.randn(2, 4, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        values = torch.randn(2, 3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        slopes = []
        for refine in (affinity_reasoning, lambda p, x: dense_reasoning(p, x.mT)):
            refined = refine(values, nn.functional.normalize(raw.relu(), dim=1))
            slopes.append(torch.autograd.grad(refined.square().sum(), [values, raw]))
        for ours, theirs in zip(*slopes, strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_voxels_without_features_are_unlike_all(self) -> None:
        # the third has no features: nothing is like it, all differ from it alike, itself included
        features = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
        values = torch.tensor([[[3.0, 6.0, 9.0]]])
        torch.testing.assert_close(affinity_reasoning(values, features), dense_reasoning(values, features.mT))
        assert affinity_reasoning(values, features)[0, 0, 2].item() == pytest.approx(9 - (3 + 6 + 9) / 3 / 2)

    def test_all_alike_draws_to_the_mean_and_away_from_nothing(self) -> None:
        features = vectors((1, 8, 500), 0.0)
        values = torch.arange(500.0)[None, None]
        torch.testing.assert_close(
            affinity_reasoning(values, features), values + values.mean() / 2, rtol=1e-4, atol=0.1
        )

    def test_a_volume_of_32_cubed_cells(self) -> None:
        values = torch.ones(1, 4, 32**3)
        torch.testing.assert_close(affinity_reasoning(values, vectors((1, 16, 32**3), 1.0)), values)


class TestNetwork:
    def test_what_it_gives_while_training(self) -> None:
        output = small()(torch.rand(2, 1, 20, 26))
        assert isinstance(output, dict)
        assert {name: tuple(value.shape) for name, value in output.items()} == SHAPES
        torch.testing.assert_close(output["features"].norm(dim=2).max(), torch.tensor(1.0))

    def test_refined_logits_are_those_of_the_cells_with_reasoning(self) -> None:
        network = small(cell=1).eval()
        image = torch.rand(1, 1, 12, 8)
        logits = network(image)
        output = network.train().requires_grad_(False)(image)
        refined = affinity_reasoning(output["logits"].flatten(2), output["features"][:, 0].flatten(2))
        torch.testing.assert_close(output["refined"].flatten(2), refined)
        assert logits.shape == output["refined"].shape

    def test_in_evaluation_it_is_the_network_alone(self) -> None:
        network = small().eval()
        image = torch.rand(2, 1, 20, 26)
        assert torch.equal(network(image), network.network(image))

    def test_structures_have_affinities_of_their_own(self) -> None:
        network = small(classes=3, multi_label=True)
        output = network(torch.rand(2, 1, 20, 26))
        assert output["features"].shape == (2, 3, 3, 5, 7)
        assert output["shallow_features"].shape == (2, 3, 6, 5, 7)
        one = output["features"][:, 1].flatten(2)
        coarse = nn.functional.adaptive_avg_pool2d(output["logits"], (5, 7))[:, 1:2]
        expected = affinity_reasoning(coarse.flatten(2), one).view(2, 1, 5, 7)
        refined = nn.functional.interpolate(expected, (20, 26), mode="bilinear", align_corners=False)
        torch.testing.assert_close(output["refined"][:, 1:2], refined)

    def test_volumes(self) -> None:
        output = small(dims=3)(torch.rand(1, 1, 16, 12, 9))
        assert output["features"].shape == (1, 1, 8, 4, 3, 3)
        assert output["refined"].shape == (1, 3, 16, 12, 9)

    @pytest.mark.parametrize(
        ("net", "layers"),
        [
            (BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 8, 4)), ("upcat_1", "upcat_2")),
            (SegResNet(2, init_filters=8, in_channels=1, out_channels=3), ("up_layers.2", "up_layers.1")),
        ],
        ids=["BasicUNet", "SegResNet"],
    )
    def test_any_network_of_monai(self, net: nn.Module, layers: tuple[str, str]) -> None:
        network = AffinityNetwork(net, *layers, spatial_dims=2, in_channels=1, out_channels=3)
        assert net.training
        output = network(torch.rand(2, 1, 32, 32))
        sum(value.square().mean() for value in output.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    def test_one_depth(self) -> None:
        net = SelfCleansingNet(2, 1, 3, channels=(4, 8, 8, 8))
        network = AffinityNetwork(net, net.feature_layer, spatial_dims=2, in_channels=1, out_channels=3)
        assert network.shallow_head is None
        assert set(network(torch.rand(1, 1, 16, 16))) == {"logits", "refined", "features"}

    def test_half_precision_outside_float32_inside(self) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = small()(torch.rand(2, 1, 20, 26))
        assert output["logits"].dtype == torch.bfloat16
        assert output["features"].dtype == output["refined"].dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = small(cell=1)(torch.rand(2, 1, 20, 26))
        exact = affinity_reasoning(output["logits"].float().flatten(2), output["features"][:, 0].flatten(2))
        torch.testing.assert_close(output["refined"].flatten(2), exact)

    def test_errors(self) -> None:
        net = SelfCleansingNet(2, 1, 3, channels=(4, 8, 8, 8))
        form = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
        with pytest.raises(ValueError, match=r"has no layer 'neck'\. Layers that give features, last first: conv_2"):
            AffinityNetwork(net, "neck", **form)
        with pytest.raises(ValueError, match="has no layer 'neck'"):
            AffinityNetwork(net, net.feature_layer, "neck", **form)
        with pytest.raises(ValueError, match=r"could not be run on an image \(1, 2, 32, 32\) .* 'residual_block_5'"):
            AffinityNetwork(net, net.feature_layer, "residual_block_5", **{**form, "in_channels": 2})
        with pytest.raises(ValueError, match="cell must be at least 1 voxel, got 0"):
            AffinityNetwork(net, net.feature_layer, **form, cell=0)

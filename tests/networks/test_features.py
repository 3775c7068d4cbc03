from __future__ import annotations

import copy

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from monai_noisylabel.networks import FeatureTap, SelfCleansingNet, candidate_layers


def small_net() -> SelfCleansingNet:
    torch.manual_seed(0)
    return SelfCleansingNet(2, 1, 2, channels=(2, 2, 4, 4)).eval()


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


class Toy(nn.Module):
    """Logits x + 1; ``coarse`` averages 2 x over 2x2 voxels; ``inplace`` overwrites ``early``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.coarse = nn.AvgPool2d(2)
        self.early = nn.Identity()
        self.inplace = nn.ReLU(inplace=True)
        self.flat = nn.Flatten()
        self.unused = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.coarse(2 * x)
        self.flat(x)
        self.inplace(self.early(x * self.weight))
        return x + 1


def test_logits_come_first_then_the_named_features() -> None:
    net, image = small_net(), torch.randn(2, 1, 13, 10)
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        handle = net.residual_block_6.register_forward_hook(lambda _m, _i, output: seen.append(output))
        logits = net(image)
        handle.remove()
        output = FeatureTap(net, net.feature_layer)(image)
    torch.testing.assert_close(output, torch.cat([logits, seen[0]], dim=1), rtol=0, atol=0)


def test_coarse_features_are_interpolated_to_the_grid_of_the_logits() -> None:
    # Averages over 2x2 of 2 x with x = 0..3 along a row: 1, 5. Linear at the voxel centres: 1, 2, 4, 5.
    x = torch.arange(4.0).expand(1, 1, 4, 4)
    output = FeatureTap(Toy(), "coarse")(x)
    torch.testing.assert_close(output[0, 1], torch.tensor([1.0, 2.0, 4.0, 5.0]).expand(4, 4))
    torch.testing.assert_close(output[0, 0], x[0, 0] + 1)


def test_features_are_those_of_the_layer_even_if_later_overwritten() -> None:
    x = -torch.ones(1, 1, 2, 2)
    assert FeatureTap(Toy(), "early")(x)[0, 1].eq(-1).all()


@pytest.mark.parametrize(
    ("network", "layer", "channels"),
    [
        (BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 8, 4)), "upcat_1", 4),
        (UNet(2, 1, 3, channels=(4, 8, 8), strides=(2, 2)), "model.1", 8),
        (SegResNet(2, init_filters=8, in_channels=1, out_channels=3), "up_layers.2", 8),
        (SegResNet(3, init_filters=8, in_channels=1, out_channels=3), "up_layers.1", 16),
        (BasicUNet(3, 1, 3, features=(4, 4, 8, 8, 8, 4)), "upcat_2", 4),
    ],
    ids=["BasicUNet", "UNet", "SegResNet", "SegResNet-3D-coarse", "BasicUNet-3D-coarse"],
)
def test_features_of_networks_that_know_nothing_of_it(network: nn.Module, layer: str, channels: int) -> None:
    dims = 3 if any(p.ndim == 5 for p in network.parameters()) else 2
    image = torch.randn(1, 1, *(dims * [32]))
    with torch.no_grad():
        output = FeatureTap(network.eval(), layer)(image)
        assert output.shape == (1, 3 + channels, *(dims * [32]))
        torch.testing.assert_close(output[:, :3], network(image))
    assert layer in candidate_layers(network, image)


def test_first_of_several_outputs_counts_as_the_logits() -> None:
    class Deep(Toy):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [super().forward(x), x[..., ::2]]

    assert FeatureTap(Deep(), "early")(torch.ones(1, 1, 4, 4)).unique().tolist() == [1.0, 2.0]


def test_a_layer_that_runs_twice_gives_its_last_output() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(self.scale.weight, 2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scale(self.scale(x)) - 1

    assert FeatureTap(Twice(), "scale")(torch.ones(1, 1, 2, 2))[0, :, 0, 0].tolist() == [3.0, 4.0]


def test_sliding_window_passes_logits_and_features() -> None:
    inferer = SlidingWindowInferer(roi_size=(16, 16), overlap=0)
    output = inferer(torch.randn(1, 1, 32, 16), FeatureTap(small_net(), "residual_block_6"))
    assert output.shape == (1, 6, 32, 16)


def test_metatensors_keep_their_kind() -> None:
    output = FeatureTap(small_net(), "residual_block_6")(MetaTensor(torch.zeros(1, 1, 16, 16)))
    assert isinstance(output, MetaTensor)


def test_output_is_float32_under_autocast() -> None:
    tap = FeatureTap(small_net(), "residual_block_6")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tap(torch.randn(1, 1, 16, 16)).dtype == torch.float32
    assert tap.to(torch.bfloat16)(torch.randn(1, 1, 16, 16).bfloat16()).dtype == torch.float32


def test_no_hook_stays_behind() -> None:
    net = small_net()
    tap = FeatureTap(net, "residual_block_6")
    tap(torch.zeros(1, 1, 16, 16))
    assert hooks(net) == 0
    with pytest.raises(ValueError, match="expected images"):
        tap(torch.zeros(1, 7, 16, 16))
    assert hooks(net) == 0
    with pytest.raises(ValueError, match="expected images"):
        candidate_layers(net, torch.zeros(1, 7, 16, 16))
    assert hooks(net) == 0


def test_state_dict_is_the_networks_own() -> None:
    net = small_net()
    tap = FeatureTap(net, "residual_block_6")
    plain = copy.deepcopy(net.state_dict())
    assert list(tap.state_dict()) == list(plain)
    with torch.no_grad():
        next(net.parameters()).zero_()
    assert not next(tap.parameters()).any()
    tap.load_state_dict(plain)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in plain.items())


def test_mode_and_device_reach_the_network() -> None:
    net = small_net()
    tap = FeatureTap(net, "residual_block_6").train()
    assert net.residual_block_6.training
    assert next(tap.to(torch.float64).parameters()).dtype == next(net.parameters()).dtype == torch.float64


def test_wrappers_are_taken_off() -> None:
    net = small_net()
    compiled = torch.compile(nn.DataParallel(net), backend="eager")
    assert FeatureTap(compiled, "residual_block_6").network is net
    assert candidate_layers(compiled, torch.zeros(1, 1, 16, 16))[0] == "conv_2"


def test_unknown_layer_is_refused_with_the_names_that_would_do() -> None:
    with pytest.raises(ValueError, match=r"SelfCleansingNet has no layer 'residual_block_7'\. .*residual_block_6"):
        FeatureTap(small_net(), "residual_block_7")
    with pytest.raises(ValueError, match="has no layer ''"):
        FeatureTap(small_net(), "")
    network = DynUNet(3, 1, 2, kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2])
    with pytest.raises(ValueError, match=r"output_block.*upsamples\.1.* and \d+ more") as caught:
        FeatureTap(network, "decoder")
    assert "heads" not in str(caught.value)


def test_unknown_layer_of_a_network_that_refuses_the_probe() -> None:
    with pytest.raises(ValueError, match=r"last first: flat, inplace|last first: unused, flat, inplace"):
        FeatureTap(Toy(), "decoder")


def test_layer_without_a_feature_map_is_refused_with_the_names_that_have_one() -> None:
    with pytest.raises(
        RuntimeError, match=r"layer 'flat' of Toy gives torch.Size\(\[1, 16\]\).* inplace, early, coarse\."
    ):
        FeatureTap(Toy(), "flat")(torch.zeros(1, 1, 4, 4))


def test_layer_that_does_not_run_is_refused() -> None:
    with pytest.raises(RuntimeError, match="layer 'unused' of Toy did not run"):
        FeatureTap(Toy(), "unused")(torch.zeros(1, 1, 4, 4))


def test_candidate_layers_leave_the_modes_as_they_were() -> None:
    net = small_net().train()
    net.residual_block_2.eval()
    before = {name: module.training for name, module in net.named_modules()}
    running = copy.deepcopy(net.state_dict())
    names = candidate_layers(net, torch.randn(1, 1, 16, 16))
    assert names.index("conv_2") < names.index("residual_block_6") < names.index("conv_1")
    assert before == {name: module.training for name, module in net.named_modules()}
    assert all(torch.equal(running[key], value) for key, value in net.state_dict().items())

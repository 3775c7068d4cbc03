from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.networks.nets import AttentionUnet, BasicUNet, DynUNet, SegResNet, UNet
from torch import Tensor, nn

from monai_noisylabel.networks import (
    BranchOutputs,
    CollaborativeNetwork,
    SelfCleansingNet,
    bottleneck_layer,
    collaborative_network,
)

NETWORKS: dict[str, dict[str, Any]] = {
    "monai_noisylabel.networks.SelfCleansingNet": {"channels": [4, 4, 8, 16]},
    "monai.networks.nets.UNet": {"channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 1},
    "monai.networks.nets.BasicUNet": {"features": [4, 4, 8, 8, 16, 4]},
    "monai.networks.nets.DynUNet": {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 16],
    },
    "monai.networks.nets.SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
}


def build(name: str, spatial_dims: int = 2, **more: Any) -> CollaborativeNetwork:
    torch.manual_seed(0)
    settings = {"spatial_dims": spatial_dims, "in_channels": 1, "out_channels": 3, **NETWORKS[name], **more}
    return collaborative_network(name, **settings)


def image(spatial_dims: int = 2) -> Tensor:
    return torch.rand(2, 1, *(32,) * spatial_dims, generator=torch.Generator().manual_seed(1))


def outputs(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What every layer of a network gives, in the order in which they end."""
    found: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        return lambda module, inputs, output: found.update({name: output.detach().clone()})

    handles = [module.register_forward_hook(record(name)) for name, module in network.named_modules()]
    network(image)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
class TestKnownNetworks:
    def test_the_bottleneck_is_the_end_of_the_coarsest_level(self, name: str, spatial_dims: int) -> None:
        network = build(name, spatial_dims)
        found = outputs(network.first, image(spatial_dims))
        sizes = {layer: output.shape[2:].numel() for layer, output in found.items()}
        assert sizes[network.bottleneck] == min(sizes.values())
        later = list(found)[list(found).index(network.bottleneck) + 1 :]
        widths = {found[layer].shape[1] for layer in later if sizes[layer] == min(sizes.values())}
        assert found[network.bottleneck].shape[1] not in widths  # UNet concatenates there, SegResNet narrows

    def test_forms_and_gradients(self, name: str, spatial_dims: int) -> None:
        network = build(name, spatial_dims)
        result = network(image(spatial_dims))
        assert type(result) is BranchOutputs
        assert result.logits.shape == (2, 6, *(32,) * spatial_dims)
        assert result.features.shape[:2] == (2, 2 * 16)
        (result.logits.sum() + result.features.square().sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.mapping.parameters())
        assert network.mapping[0].weight.grad.any()


@pytest.mark.parametrize("name", NETWORKS)
class TestBranches:
    def test_nothing_is_shared_and_weights_differ(self, name: str) -> None:
        network = build(name)
        first, second = (list(branch.parameters()) for branch in (network.first, network.second))
        assert [p.shape for p in first] == [p.shape for p in second]
        assert not {p.data_ptr() for p in first} & {p.data_ptr() for p in second}
        assert all(not torch.equal(p, q) for p, q in zip(first, second, strict=True) if p.ndim > 1)
        logits = network(image()).logits
        logits[:, :3].square().sum().backward()
        moved = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved == {"first"}

    def test_the_block_stands_in_the_way_of_the_second_branch_alone(self, name: str) -> None:
        network = build(name, mapping_dropout=0.0)
        plain = [copy_without_hooks(branch) for branch in (network.first, network.second)]
        before = network(image())
        coarse = outputs(plain[1], image())[network.bottleneck]
        torch.testing.assert_close(before.logits[:, :3], plain[0](image()))
        torch.testing.assert_close(before.features[:, 16:], network.mapping(coarse))
        plain[1].get_submodule(network.bottleneck).register_forward_hook(lambda m, i, o: network.mapping(o))
        torch.testing.assert_close(before.logits[:, 3:], plain[1](image()))
        with torch.no_grad():
            network.mapping[0].weight.mul_(-1)
        after = network(image())
        assert torch.equal(after.logits[:, :3], before.logits[:, :3])
        assert not torch.equal(after.logits[:, 3:], before.logits[:, 3:])
        assert torch.equal(after.features[:, :16], before.features[:, :16])

    def test_evaluation_is_the_mean_of_both(self, name: str) -> None:
        network = build(name)
        network(image())  # running statistics that are not those of the start
        network.eval()
        with torch.no_grad():
            mean = (network.first(image()) + network.second(image())) / 2
            network._noted.clear()
            assert torch.equal(network(image()), mean)
            assert torch.equal(network(image()), network(image()))  # no dropout

    def test_a_branch_loads_plain_weights(self, name: str) -> None:
        network = build(name)
        kinds = {part.split(".")[0] for part in network.state_dict()}
        assert kinds == {"first", "second", "mapping"}
        plain = copy_without_hooks(build(name).second)
        weights = {key.removeprefix("first."): v for key, v in network.state_dict().items() if key.startswith("first.")}
        plain.load_state_dict(weights)


def copy_without_hooks(branch: nn.Module) -> nn.Module:
    copied = copy.deepcopy(branch)
    for module in copied.modules():
        module._forward_hooks.clear()
    return copied


def test_a_deep_copy_maps_with_its_own_block() -> None:
    network = build("monai.networks.nets.BasicUNet", mapping_dropout=0.0)
    copied = copy.deepcopy(network)
    torch.testing.assert_close(copied(image()).logits, network(image()).logits)
    before = network(image()).features
    with torch.no_grad():
        copied.mapping[0].weight.mul_(-1)
    assert torch.equal(network(image()).features, before)
    assert not torch.equal(copied(image()).features, before)


def test_features_do_not_outlive_the_call() -> None:
    network = build("monai.networks.nets.BasicUNet")
    network(image())
    assert not network._noted


def test_dropout_is_of_whole_channels() -> None:
    network = build("monai.networks.nets.BasicUNet", mapping_dropout=0.5)
    with torch.no_grad():
        network.mapping[0].weight.zero_()
        network.mapping[0].bias.fill_(1.0)
    network.mapping[1] = nn.Identity()
    channels = network(image()).features[:, 16:].flatten(2)
    assert set(channels.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(channels.amin(2), channels.amax(2))


def test_normalisation_is_of_the_layers_kind() -> None:
    name = "monai_noisylabel.networks.SelfCleansingNet"
    assert type(build(name, norm="instance").mapping[1]) is nn.InstanceNorm2d
    assert type(build(name, 3).mapping[1]) is nn.BatchNorm3d
    group = build(name, norm=("group", {"num_groups": 4})).mapping[1]
    assert type(group) is nn.GroupNorm
    assert group.num_groups == 4
    none = build("monai.networks.nets.UNet", norm=None)
    assert type(none.mapping[1]) is nn.Identity
    trained = [SelfCleansingNet(2, 1, 3, channels=[4, 4, 8, 16]) for _ in range(2)]
    trained[1](image())
    network = CollaborativeNetwork(*trained)
    assert network.mapping[1] not in [module for module in trained[1].modules() if isinstance(module, nn.BatchNorm2d)]
    assert torch.equal(network.mapping[1].running_mean, torch.zeros(16))  # begins anew


def test_compiled_equals_eager() -> None:
    network = build("monai_noisylabel.networks.SelfCleansingNet", mapping_dropout=0.0, norm="instance")
    compiled = torch.compile(network, backend="aot_eager")
    for mode in (True, False):
        network.train(mode)
        for batch in (image(), image() + 1):
            torch.testing.assert_close(compiled(batch), network(batch))


def test_the_stock_trainer_takes_the_outputs() -> None:
    network = build("monai.networks.nets.BasicUNet")
    seen: list[Any] = []

    def loss(input: BranchOutputs, target: Tensor) -> Tensor:
        seen.append(input)
        return input.logits.square().mean() + input.features.square().mean()

    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": image(), "label": torch.zeros(2, 1, 32, 32)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss,
    )
    before = copy.deepcopy(network.state_dict())
    trainer.run()
    assert [type(part) for part in seen] == [BranchOutputs]
    changed = {key.split(".")[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"first", "second", "mapping"}


class TestErrors:
    def test_shared_weights(self) -> None:
        net = BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 16, 4))
        with pytest.raises(ValueError, match="must not share weights: build the network twice"):
            CollaborativeNetwork(net, net)

    def test_unknown_networks_say_what_to_name(self) -> None:
        network = AttentionUnet(2, 1, 2, channels=[4, 8, 8], strides=[2, 2])
        with pytest.raises(
            ValueError, match=r"AttentionUnet is not known: name by bottleneck .* one of model, model\.0"
        ):
            bottleneck_layer(network)

    def test_a_layer_that_is_not_there(self) -> None:
        nets = [BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 16, 4)) for _ in range(2)]
        with pytest.raises(ValueError, match=r"BasicUNet has no layer 'down_5'\. Layers to name .*down_4"):
            CollaborativeNetwork(*nets, bottleneck="down_5")

    def test_a_layer_without_convolutions(self) -> None:
        nets = [BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 16, 4)) for _ in range(2)]
        with pytest.raises(ValueError, match=r"'down_4\.max_pooling' has no convolution"):
            CollaborativeNetwork(*nets, bottleneck="down_4.max_pooling")

    def test_a_layer_of_another_width(self) -> None:
        class Halved(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = nn.Conv2d(1, 4, 1)

            def forward(self, image: Tensor) -> Tensor:
                return self.body(image)[:, :2]

        nets = [nn.Sequential(Halved(), nn.Conv2d(2, 3, 1)) for _ in range(2)]
        with pytest.raises(ValueError, match="'0' of Sequential gives 2 channels and its last convolution 4"):
            CollaborativeNetwork(*nets, bottleneck="0")(image())

    def test_a_layer_that_does_not_run(self) -> None:
        class Idle(nn.Sequential):
            def forward(self, image: Tensor) -> Tensor:
                return self[0](image)

        nets = [Idle(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 1)) for _ in range(2)]
        with pytest.raises(RuntimeError, match="'1' of Idle did not run"):
            CollaborativeNetwork(*nets, bottleneck="1")(image())

    def test_deep_supervision(self) -> None:
        network = build("monai.networks.nets.DynUNet", deep_supervision=True, deep_supr_num=1)
        with pytest.raises(ValueError, match="Switch deep supervision and further outputs off"):
            network(image())

    def test_dropout_and_unknown_class(self) -> None:
        with pytest.raises(ValueError, match=r"mapping_dropout must be .* got 1\.0"):
            build("monai.networks.nets.BasicUNet", mapping_dropout=1.0)
        with pytest.raises(ModuleNotFoundError, match=r"monai\.networks\.nets\.Unet3"):
            collaborative_network("monai.networks.nets.Unet3")


def test_known_classes_are_those_of_the_docstring() -> None:
    settings = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    assert bottleneck_layer(UNet(**settings, channels=[4, 8, 8, 8], strides=[2, 2, 2])) == (
        "model.1.submodule.1.submodule.1.submodule"
    )
    assert bottleneck_layer(SegResNet(**settings)) == "down_layers.3"
    assert bottleneck_layer(BasicUNet(**settings)) == "down_4"
    assert bottleneck_layer(SelfCleansingNet(**settings)) == "residual_block_3"
    dyn = DynUNet(**settings, **NETWORKS["monai.networks.nets.DynUNet"])
    assert bottleneck_layer(dyn) == "bottleneck"

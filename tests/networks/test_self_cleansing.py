from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_noisylabel.networks import SelfCleansingNet

# Table 1, one class, 2D, kernels only: (kernel area) * in * out, with n equal convolutions written n * ...
TABLE_1 = {
    "conv_1": 9 * 1 * 16,
    "residual_block_1": 4 * 16 * 32 + 1 * 9 * 32 * 32,
    "residual_block_2": 4 * 32 * 64 + 2 * 9 * 64 * 64,
    "residual_block_3": 4 * 64 * 128 + 3 * 9 * 128 * 128,
    "residual_block_4": 4 * 128 * 64 + 3 * 9 * 128 * 128,  # 64 upsampled + 64 of the skip = 128
    "residual_block_5": 4 * 128 * 32 + 2 * 9 * 64 * 64,  # 32 + 32
    "residual_block_6": 4 * 64 * 16 + 1 * 9 * 32 * 32,  # 16 + 16
    "conv_2": 9 * 32 * 2 + 1 * 2 * 1,
}


def kernel_elements(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.ndim > 2)


def capture(net: SelfCleansingNet, image: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, child in net.named_children():
        child.register_forward_hook(lambda _m, _i, output, name=name: found.update({name: output}))
    net(image)
    return found


@pytest.mark.parametrize("block", TABLE_1)
def test_kernels_of_every_block_match_table_1(block: str) -> None:
    assert kernel_elements(getattr(SelfCleansingNet(2, 1, 1), block)) == TABLE_1[block]


def test_blocks_of_table_1_are_all_there_is() -> None:
    assert [name for name, _ in SelfCleansingNet(2, 1, 1).named_children()] == list(TABLE_1)


def test_output_sizes_of_table_1() -> None:
    found = capture(SelfCleansingNet(2, 1, 1).eval(), torch.zeros(1, 1, 256, 256))
    edges = [256, 128, 64, 32, 64, 128, 256, 256]
    widths = [16, 32, 64, 128, 128, 64, 32, 1]
    assert [tuple(found[name].shape[1:]) for name in TABLE_1] == [
        (width, edge, edge) for width, edge in zip(widths, edges, strict=True)
    ]


@pytest.mark.parametrize("norm", ["batch", "instance", ("group", {"num_groups": 4})])
@pytest.mark.parametrize("shape", [(33, 50), (9, 17), (5, 40), (21, 24, 18), (9, 5, 11)])
def test_any_grid_comes_back_with_its_features(shape: tuple[int, ...], norm: str) -> None:
    net = SelfCleansingNet(len(shape), 2, 3, channels=(4, 4, 8, 8), norm=norm)
    image = torch.randn(2, 2, *shape)
    found = capture(net, image)
    assert found["conv_2"].shape == (2, 3, *shape)
    features = found[SelfCleansingNet.feature_layer]
    assert features.shape == (2, 8, *shape)
    assert features.min() == 0
    assert features.max() > 0


def test_odd_axis_equals_the_repeated_last_plane() -> None:
    # 13 planes become 7 on the next level, as 14 do: its last plane counts twice.
    torch.manual_seed(0)
    net = SelfCleansingNet(2, 1, 1, channels=(4, 4, 8, 8)).eval()
    image = torch.randn(1, 1, 13, 16)
    level_1 = net.conv_1(image)
    expected = net.residual_block_1(F.pad(level_1, (0, 0, 0, 1), mode="replicate"))
    torch.testing.assert_close(net.residual_block_1(level_1), expected, rtol=0, atol=0)
    assert expected.shape[2:] == (7, 8)


def test_decoder_drops_the_plane_that_was_repeated() -> None:
    # 3 planes become 6; the skip has 5, and it was the last plane that the encoder repeated.
    torch.manual_seed(0)
    block = SelfCleansingNet(2, 1, 1, channels=(4, 4, 8, 8)).eval().residual_block_6
    x, skip = torch.randn(1, 8, 3, 4), torch.randn(1, 4, 5, 8)
    expected = block.residual(torch.cat([block.up(x)[:, :, :5], skip], dim=1))
    torch.testing.assert_close(block(x, skip), expected, rtol=0, atol=0)


def test_head_stays_alive_where_its_hidden_channels_are_negative() -> None:
    # Hidden channels -1, leaky slope 0.1, last kernel 1 and 1: -0.1 - 0.1 = -0.2.
    head = SelfCleansingNet(2, 1, 1, channels=(2, 2, 2, 2)).conv_2
    for parameter, value in zip(head.parameters(), (0.0, -1.0, 1.0, 0.0), strict=True):
        torch.nn.init.constant_(parameter, value)
    torch.testing.assert_close(head(torch.zeros(1, 4, 3, 3)), torch.full((1, 1, 3, 3), -0.2))


def test_multiples_of_eight_are_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "pad", None)
    assert SelfCleansingNet(2, 1, 1, channels=(2, 2, 2, 2))(torch.zeros(1, 1, 16, 24)).shape[2:] == (16, 24)


def test_residual_blocks_add_their_input() -> None:
    # With all 3x3 kernels of a block zero, normalisation (scale and shift 0) leaves 0: the block is relu(x).
    net = SelfCleansingNet(2, 1, 1, channels=(2, 2, 4, 4)).eval()
    for parameter in net.residual_block_2.residual.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(net.residual_block_2.residual(x), x.relu())


def test_skip_connection_reaches_the_output() -> None:
    net = SelfCleansingNet(2, 1, 1, channels=(2, 2, 4, 4)).eval()
    for parameter in net.residual_block_6.up.parameters():
        torch.nn.init.zeros_(parameter)
    a, b = net(torch.zeros(1, 1, 16, 16)), net(torch.ones(1, 1, 16, 16))
    assert not torch.equal(a, b)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    net = SelfCleansingNet(3, 1, 2, channels=(2, 4, 4, 8), norm="batch")
    net(torch.randn(2, 1, 17, 18, 9)).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_autocast_and_channels_last_agree_with_float32() -> None:
    torch.manual_seed(0)
    net = SelfCleansingNet(2, 1, 2, channels=(4, 8, 8, 8)).eval()
    image = torch.randn(2, 1, 21, 19)
    expected = net(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(image)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.05)
    last = net.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


def test_traces_without_a_graph_break() -> None:
    net = SelfCleansingNet(2, 1, 2, channels=(2, 2, 2, 2)).eval()
    image = torch.randn(1, 1, 13, 16)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), net(image))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "at least 1, got 0 and 1"),
        ({"out_channels": 0}, "at least 1, got 1 and 0"),
        ({"channels": (16, 32, 64)}, r"four positive widths.*got \(16, 32, 64\)"),
        ({"channels": (0, 1, 1, 1)}, "four positive widths"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfCleansingNet(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 1, **arguments})


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
def test_images_of_another_kind_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 1, \*S\) with 2 spatial axes, got"):
        SelfCleansingNet(2, 1, 1)(torch.zeros(shape))

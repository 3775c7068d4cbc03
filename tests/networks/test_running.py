"""Networks over whole images: at once, patch by patch, and slice by slice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from monai_noisylabel.networks import ImageInferer, memory_format


@pytest.mark.parametrize(
    ("spatial_dims", "channels_last", "expected"),
    [
        (2, True, torch.channels_last),
        (3, True, torch.channels_last_3d),
        (2, False, torch.contiguous_format),
        (3, False, torch.contiguous_format),
    ],
)
def test_memory_format(spatial_dims: int, channels_last: bool, expected: torch.memory_format) -> None:
    assert memory_format(spatial_dims, channels_last) is expected


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_memory_format_fits_weights_of_its_dimension(spatial_dims: int) -> None:
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims](4, 4, 3)
    chosen = memory_format(spatial_dims, channels_last=True)
    assert convolution.to(memory_format=chosen).weight.is_contiguous(memory_format=chosen)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_image_of_the_networks_dimension_is_run_at_once(spatial_dims: int) -> None:
    network = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims](1, 3, 3, padding=1)
    image = torch.rand(2, 1, *(6, 7, 5)[:spatial_dims])
    with torch.no_grad():
        assert torch.equal(ImageInferer(spatial_dims)(image, network), network(image))


@pytest.mark.parametrize("slices_at_once", [1, 3, 4, 100])
def test_a_two_dimensional_network_sees_each_slice_of_a_volume_by_itself(slices_at_once: int) -> None:
    # two volumes of five slices: ten slices, which 3 and 4 do not divide
    network, volume = nn.Conv2d(1, 3, 3, padding=1), torch.rand(2, 1, 6, 7, 5)
    seen: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        result = ImageInferer(spatial_dims=2, slices_at_once=slices_at_once)(volume, network)
        assert sum(seen) == 10
        assert max(seen) == min(slices_at_once, 10)
        assert result.shape == (2, 3, 6, 7, 5)
        for index in range(5):
            assert torch.allclose(result[..., index], network(volume[..., index]), atol=1e-6)


def test_patches_have_the_size_asked_for_and_cover_the_image() -> None:
    sizes: list[tuple[int, ...]] = []

    def network(patches: Tensor) -> Tensor:
        sizes.append(tuple(patches.shape[2:]))
        return 2 * patches

    image = torch.rand(1, 1, 10, 12)
    result = ImageInferer(spatial_dims=2, patch_size=(8, 8))(image, network)
    assert set(sizes) == {(8, 8)}
    assert torch.allclose(result, 2 * image, atol=1e-6)


def test_a_volume_is_run_patch_by_patch_within_its_slices() -> None:
    volume = torch.rand(1, 1, 10, 12, 3)
    result = ImageInferer(spatial_dims=2, patch_size=(8, 8))(volume, lambda patches: 2 * patches)
    assert torch.allclose(result, 2 * volume, atol=1e-6)


def test_further_arguments_reach_the_network() -> None:
    def network(image: Tensor, offset: float, factor: float = 1.0) -> Tensor:
        return factor * image + offset

    for image in (torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4, 3)):
        result = ImageInferer(spatial_dims=2)(image, network, 0.5, factor=3.0)
        assert result.unique().tolist() == [3.5]

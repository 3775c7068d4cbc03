"""Every image through the network of its number, and only the networks of a batch learn from it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_noisylabel.data import FoldBatch
from monai_noisylabel.networks import FoldNetworks, SelfCleansingNet

NUMBERS = torch.tensor([1, 0, 2, 1, 0])


def networks(spatial_dims: int = 2, teacher_epochs: int = 3) -> FoldNetworks:
    torch.manual_seed(0)
    parts = [SelfCleansingNet(spatial_dims, 1, 2, channels=(4, 4, 8, 8), norm="instance") for _ in range(3)]
    return FoldNetworks(parts[0], parts[1:], teacher_epochs)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_image_through_the_network_of_its_number(spatial_dims: int) -> None:
    folds, image = networks(spatial_dims), torch.rand(5, 1, *(16,) * spatial_dims)
    members = [*folds.teachers, folds.student]
    logits = folds(image, NUMBERS)
    for row, number in enumerate(NUMBERS.tolist()):
        torch.testing.assert_close(logits[row], members[number](image[row : row + 1])[0], rtol=1e-4, atol=1e-5)
    for number, member in enumerate(members):  # patches of one case come with its number alone
        assert torch.equal(folds(image, torch.tensor([number])), member(image))


def test_without_numbers_it_is_the_teacher_and_then_the_student() -> None:
    folds, image = networks().eval(), torch.rand(2, 1, 16, 16)
    teacher, student = folds.teachers[0](image), folds.student(image)
    assert torch.equal(folds(image), student)  # nobody has set an epoch
    found = []
    for folds.epoch in range(5):
        found.append(("teacher" if folds.teaching else "student", torch.equal(folds(image), teacher)))
    assert found == [("teacher", True)] * 3 + [("student", False)] * 2
    assert torch.equal(folds(image), student)


def test_an_optimizer_leaves_the_others_alone() -> None:
    """Teacher 1 alone has images in the second step: the others, and their momenta, do not move."""
    folds = networks()
    optimizer = torch.optim.Adam(folds.parameters(), lr=0.01)
    seen = []
    for numbers in (torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 2])):
        before = copy.deepcopy(folds.state_dict())
        optimizer.zero_grad(set_to_none=True)
        folds(torch.rand(2, 1, 16, 16), numbers).square().mean().backward()
        optimizer.step()
        changed = {name for name, value in folds.state_dict().items() if not torch.equal(value, before[name])}
        seen.append({name.rsplit(".", 1)[0].split(".residual")[0].split(".conv")[0] for name in changed})
    assert seen == [{"teachers.0", "teachers.1"}, {"teachers.1"}, {"student"}]


def test_a_batch_for_teachers_and_then_for_the_student() -> None:
    """Folds 0, 2, 1 of three: each sample for the two teachers of the other folds, in two copies of the batch."""
    folds = FoldNetworks(nn.Identity(), [nn.Identity() for _ in range(3)], teacher_epochs=1)
    prepare = FoldBatch(folds)
    image, label = torch.rand(3, 1, 4), torch.rand(3, 2, 4)
    batch = {"image": image, "label": label, "fold": torch.tensor([0, 2, 1])}
    folds.epoch = 0
    images, labels, (numbers,), more = prepare(batch, device="cpu")
    assert torch.equal(images, torch.cat([image, image]))
    assert torch.equal(labels, torch.cat([label, label]))
    assert numbers.tolist() == [1, 0, 2, 2, 1, 0]
    assert more == {}
    folds.epoch = 1
    images, labels, (numbers,), _ = prepare(batch)
    assert torch.equal(images, image)
    assert torch.equal(labels, label)
    assert numbers.tolist() == [3, 3, 3]


def test_errors() -> None:
    one, two, three = (nn.Identity() for _ in range(3))
    with pytest.raises(ValueError, match="two folds at least; got 1"):
        FoldNetworks(one, [two], 1)
    for student, teachers in ((one, [one, two]), (one, [two, two])):
        with pytest.raises(ValueError, match="must be different networks"):
            FoldNetworks(student, teachers, 1)
    with pytest.raises(ValueError, match="at least 1 epoch, got 0"):
        FoldNetworks(one, [two, three], 0)
    with pytest.raises(KeyError, match="no 'fold'"):
        FoldBatch(FoldNetworks(one, [two, three], 1))({"image": torch.zeros(1), "label": torch.zeros(1)})

"""Relabelling during a sweep, on cases that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handler_fakes import superpixel_sweep
from monai.data import MetaTensor
from superpixel_fakes import CASES, PAIRS, SURE, bits, case_items, logits, refined_share, relabelling
from two_processes import run_on_two

from monai_noisylabel.correction import relabel_superpixels
from monai_noisylabel.data import LabelStore
from monai_noisylabel.losses import SuperpixelLoss


def run(folder: Path, items: Sequence[dict[str, Any]], rates: Any, over_set: bool = True, **settings: Any) -> Any:
    """Store and changes of one sweep."""
    store, kept = LabelStore(folder), settings.pop("kept", frozenset())
    loss = SuperpixelLoss(settings.pop("num_classes", 2), rates, **settings)
    relabel = relabelling(store, loss, over_set)
    relabel.kept = kept
    superpixel_sweep(items, relabel).run(global_epoch=7)
    assert relabel._cases == [], "nothing is kept in memory between sweeps"
    store.commit("test")
    return store, {change.case: change for change in relabel.changes}


def stored(store: LabelStore) -> dict[str, str]:
    labels = {name: store.read(name) for name in CASES}
    return {name: "".join(map(str, label.ravel())) for name, label in labels.items() if label is not None}


def test_over_the_set_the_wrong_superpixels_alone_are_relabelled(tmp_path: Path) -> None:
    # 3 of 15 superpixels are wrong: a fifth
    store, changes = run(tmp_path, case_items(), 0.8, per_class=False)
    assert stored(store) == {"b": "0000111111", "c": "0000111111"}
    assert {name: change.changed for name, change in changes.items()} == {"a": 0, "b": 4, "c": 2}
    assert store.record(1)["cases"]["b"]["voxels_changed"] == {"1": {"added": 4, "removed": 0}}
    assert store.record(1)["cases"]["b"]["facts"] == {"voxels_relabelled": 4}
    assert [changes["b"].before.item(), changes["b"].after.item()] == pytest.approx([0.5, 1.0])
    assert [changes["c"].before.item(), changes["c"].after.item()] == pytest.approx([12 / 14, 1.0])


def test_order_of_the_cases_does_not_matter(tmp_path: Path) -> None:
    for number, items in enumerate((case_items(), case_items()[::-1])):
        store, changes = run(tmp_path / str(number), items, 14 / 15, per_class=False)
        assert stored(store) == {"c": "0000111111"}  # one of fifteen superpixels, of equal losses the last one
        assert list(changes) == ["a", "b", "c"]


def test_in_each_case_the_same_share_is_relabelled(tmp_path: Path) -> None:
    # a fifth of each case: one superpixel. In b one of the two missing ones: of equal losses the later one is taken
    store, changes = run(tmp_path, case_items(), 0.8, over_set=False, per_class=False)
    assert stored(store) == {"b": "0000001111", "c": "0000111111"}
    assert {name: change.changed for name, change in changes.items()} == {"a": 0, "b": 2, "c": 2}


def test_per_class_shares_over_the_set(tmp_path: Path) -> None:
    # given as background: 2 + 4 + 1 superpixels, of which two are wrong; as class 1: 3 + 1 + 4, one is wrong
    store, _ = run(tmp_path / "0", case_items(), [5 / 7, 1.0])
    assert stored(store) == {"b": "0000111111"}
    store, _ = run(tmp_path / "1", case_items(), [1.0, 7 / 8])
    assert stored(store) == {"c": "0000111111"}
    store, _ = run(tmp_path / "2", case_items(), [1.0, 1.0])
    assert stored(store) == {}
    # one rate from both: (14 * 5/7 + 16 * 1) / 30 = 13/15, two superpixels
    store, _ = run(tmp_path / "3", case_items(), [5 / 7, 1.0], per_class=False)
    assert len(stored(store)) + 1 == len(CASES)


def test_both_networks_decide(tmp_path: Path) -> None:
    items = case_items()
    doubt = (0.1, 0.1, 0.9, 0.05, 0.9)  # 0.9 and 0.05 are 0.475 on average
    items[1]["pred"] = logits(SURE, doubt)
    store, _ = run(tmp_path / "0", items, 0.0, per_class=False, class_balanced=False)
    assert stored(store)["b"] == "0000110011"
    # 16 of 30 voxels are labelled 1, which the networks do not know if their loss weighs both classes alike
    store, _ = run(tmp_path / "1", items, 0.0, per_class=False)
    assert stored(store)["b"] == "0000111111"  # 0.475 * 16 > 0.525 * 14


def test_the_label_in_use_is_refined_and_changes_are_counted_from_the_given_one(tmp_path: Path) -> None:
    items = case_items()
    items[1]["pseudo_label"] = bits("0000110011")
    store, changes = run(tmp_path, items, 0.0, per_class=False)
    assert changes["b"].changed == 2
    assert store.record(1)["cases"]["b"]["voxels_changed"] == {"1": {"added": 4, "removed": 0}}
    assert changes["b"].before.item() == pytest.approx(8 / 10)


def test_voxels_outside_and_geometry(tmp_path: Path) -> None:
    items = case_items()
    affine = torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64))
    for item in items:
        item["label"] = MetaTensor(item["label"], affine=affine)
    surest = (0.1, 0.1, 0.99, 0.9, 0.9)
    items[1] |= {"superpixels": torch.where(PAIRS == 3, 0, 100 * PAIRS), "pred": logits(surest, surest)}
    store, _ = run(tmp_path / "all", items, 0.0, per_class=False)
    assert stored(store)["b"] == "0000001111"
    assert store.read_stored("b").header["geometry"] == {"affine": affine.tolist(), "shape": [1, 10]}
    # one of fourteen superpixels: of equal losses the last one. What is outside, as left by padding, takes no share
    store, _ = run(tmp_path / "one", items, 13 / 14, per_class=False)
    assert stored(store) == {"c": "0000111111"}


@pytest.mark.parametrize("class_balanced", [False, True])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("space", [(6, 7), (3, 4, 5)], ids=str)
def test_in_each_case_it_is_the_function_of_the_equations(
    variant: Any, space: tuple[int, ...], class_balanced: bool, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(3)
    items = []
    for name in CASES:
        label = torch.randint(3, (1, *space), generator=generator, dtype=torch.uint8)
        ids = torch.randint(1, 9, (1, *space), generator=generator)
        z = torch.randn(6, *space, generator=generator)
        items.append({"case": name, "label": label, "superpixels": ids, "pred": z, "clean_label": label})
    rates = [0.6, 0.8, 0.4]
    settings: dict[str, Any] = {"num_classes": 3, "over_set": False, "variant": variant}
    settings["per_class"] = variant == "paper"  # the other one is so always
    store, _ = run(tmp_path, items, rates, class_balanced=class_balanced, **settings)
    voxels = torch.stack([item["label"] for item in items]).flatten().bincount()
    shares = (voxels / voxels.sum())[None] if class_balanced else None
    for item in items:
        first, second = (part[None].softmax(1) for part in item["pred"].chunk(2))
        label, ids = item["label"][None], item["superpixels"][None]
        expected = relabel_superpixels(
            label, ids, first, second, torch.tensor([rates]), per_class=True, variant=variant, shares=shares
        )
        found = store.read(item["case"])
        np.testing.assert_array_equal(item["label"] if found is None else found, expected[0])
    assert len(store.record(1)["cases"]) >= 2


def test_structures_that_may_overlap_are_problems_of_their_own(tmp_path: Path) -> None:
    # two structures; the first one is as in the cases above, the second one is right everywhere
    items = []
    for name, entry in CASES.items():
        z = entry["pred"]
        one = z[1:2] - z[:1]
        label = torch.cat([entry["label"], bits("0000111111")])
        items.append(
            {
                "case": name,
                "label": label,
                "superpixels": PAIRS,
                "clean_label": bits("0000111111").repeat(2, 1, 1),
                "pred": torch.cat([one, one, one, one]),
            }
        )
    store, changes = run(tmp_path, items, [[5 / 7, 1.0], [1.0, 1.0]], sigmoid=True)
    np.testing.assert_array_equal(store.read("b"), bits("0000111111").repeat(2, 1, 1))
    assert store.read("a") is None
    assert store.read("c") is None
    assert changes["b"].before.tolist() == pytest.approx([0.5, 1.0])


def test_structures_that_are_kept_neither_lose_nor_win_voxels(tmp_path: Path) -> None:
    items = []
    for name, entry in CASES.items():
        z = torch.cat([torch.stack([part[0], part[1], part[1] - 9]) for part in entry["pred"].chunk(2)])
        label = entry["label"].clone()
        label[..., 8:] = 2  # the last superpixel is of class 2, and the networks find class 1 there
        items.append({"case": name, "label": label, "superpixels": PAIRS, "clean_label": label, "pred": z})
    settings: dict[str, Any] = {"num_classes": 3, "per_class": False}
    store, _ = run(tmp_path / "0", items, 0.0, **settings)
    assert stored(store) == dict.fromkeys(CASES, "0000111111")
    store, _ = run(tmp_path / "2", items, 0.0, kept=frozenset([2]), **settings)
    assert stored(store) == {"b": "0000111122", "c": "0000111122"}
    store, _ = run(tmp_path / "1", items, 0.0, kept=frozenset([1]), **settings)
    assert stored(store) == {}
    channels = [
        {
            "case": name,
            "label": entry["label"].repeat(2, 1, 1),
            "superpixels": PAIRS,
            "clean_label": entry["label"].repeat(2, 1, 1),
            "pred": (entry["pred"][1:2] - entry["pred"][:1]).repeat(4, 1, 1),
        }
        for name, entry in CASES.items()
    ]
    store, _ = run(tmp_path / "3", channels, 0.0, num_classes=2, sigmoid=True, kept=frozenset([2]))
    np.testing.assert_array_equal(store.read("b"), torch.cat([bits("0000111111"), bits("0000000011")]))


@pytest.mark.distributed
def test_two_processes_refine_as_one(tmp_path: Path) -> None:
    shares = [["a", "c"], ["b", "a"]]  # the second one is padded with the first case
    alone = refined_share(0, str(tmp_path / "one"), [["a", "b", "c"]], [(6.0, 3)])
    assert alone == {"superpixel_gap": 2.0, "labels_relabel": 1}  # one of fifteen superpixels
    found = run_on_two(refined_share, str(tmp_path / "two"), shares, [(1.0, 1), (5.0, 2)])
    assert found == [alone, alone]
    one, two = LabelStore(tmp_path / "one"), LabelStore(tmp_path / "two")
    assert one.round == two.round == 1
    assert two.staged() == []
    assert stored(two) == stored(one) == {"c": "0000111111"}
    assert two.record(1)["parameters"] == one.record(1)["parameters"]

"""Splits: explicit, drawn, and what happens when they collide."""

from __future__ import annotations

import random

from monai_noisylabel.data.splits import SPLITS, SplitCase, SplitRule, Splits, assign_splits


def eyes(patients: int) -> list[SplitCase]:
    """Two cases per patient."""
    return [
        SplitCase(f"p{n:02d}_{eye}", f"p{n:02d}", {"eye": eye}, f"{n}{eye}") for n in range(patients) for eye in "lr"
    ]


def named(cases: list[SplitCase], splits: Splits) -> dict[str, list[str]]:
    """Case ids per split."""
    return {split: [cases[i].case for i in indices] for split, indices in assign_splits(cases, splits)[0].items()}


def test_counts_in_the_order_of_the_names() -> None:
    cases = [SplitCase(name, name, {}, name) for name in ("d", "b", "a", "c", "e")]
    rules = Splits(order="sorted", train=SplitRule(count=2), val=SplitRule(count=1), test=SplitRule(count=1))
    assert named(cases, rules) == {"train": ["b", "a"], "val": ["c"], "test": ["d"]}


def test_fractions_draw_whole_patients() -> None:
    cases = eyes(10)
    members, problems = assign_splits(cases, Splits(val=SplitRule(fraction=0.2), test=SplitRule(fraction=0.3)))
    assert problems == []
    patients = {split: {cases[i].patient for i in members[split]} for split in SPLITS}
    assert [len(patients[split]) for split in SPLITS] == [5, 2, 3]
    assert [len(members[split]) for split in SPLITS] == [10, 4, 6]
    assert len(set.union(*patients.values())) == 10


def test_a_fraction_of_few_patients_is_at_least_one() -> None:
    # 0.1 of 3 patients rounds to 0
    rules = Splits(val=SplitRule(fraction=0.1), test=SplitRule(fraction=0.1))
    assert [len(cases) for cases in named(eyes(3), rules).values()] == [2, 2, 2]


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_the_files() -> None:
    cases = eyes(20)
    rules = Splits(seed=3, val=SplitRule(fraction=0.2), test=SplitRule(fraction=0.2))
    shuffled = random.Random(0).sample(cases, len(cases))
    for split, members in named(cases, rules).items():
        assert sorted(members) == sorted(named(shuffled, rules)[split])
    assert named(cases, rules) != named(cases, rules.model_copy(update={"seed": 4}))


def test_the_draw_is_the_same_on_every_machine() -> None:
    rules = Splits(seed=0, val=SplitRule(count=2), test=SplitRule(count=2))
    order = rules.ordered(f"p{n:02d}" for n in range(6))
    assert order == ["p03", "p05", "p01", "p02", "p04", "p00"]


def test_one_patient_more_leaves_the_order_of_the_others() -> None:
    rules = Splits(val=SplitRule(count=1), test=SplitRule(count=1))
    names = [f"p{n}" for n in range(9)]
    assert [name for name in rules.ordered([*names, "new"]) if name != "new"] == rules.ordered(names)


def test_explicit_rules_come_before_draws_and_the_rest_last() -> None:
    rules = Splits(
        order="sorted",
        val=SplitRule(match={"eye": "l"}, count=1),
        test=SplitRule(first="p00", last="p01"),
    )
    # p00, p01 are test; of the patients left p02 is the first; only its left eye may be drawn, so the right
    # eye falls to the rest and would leak p02 into train
    members, problems = assign_splits(cases := eyes(4), rules)
    assert [cases[i].case for i in members["test"]] == ["p00_l", "p00_r", "p01_l", "p01_r"]
    assert [cases[i].case for i in members["val"]] == ["p02_l"]
    assert [cases[i].case for i in members["train"]] == ["p03_l", "p03_r"]
    assert [(p.case, p.kind, p.fatal) for p in problems] == [("p02_r", "duplicate patient", True)]
    assert "patient p02 is also in val" in problems[0].message


def test_lists_of_cases_and_patients() -> None:
    rules = Splits(val=SplitRule(patients=["p01"]), test=SplitRule(cases=["p00_l", "p00_r", "p77_l"]))
    members, problems = assign_splits(eyes(3), rules)
    assert members == {"train": [4, 5], "val": [2, 3], "test": [0, 1]}
    assert [(p.case, p.kind, p.fatal) for p in problems] == [("p77_l", "not found", False)]


def test_a_case_in_two_splits_stays_in_the_later_one() -> None:
    rules = Splits(train=SplitRule(cases=["p00_l", "p01_l"]), val=SplitRule(first="p02"), test=SplitRule(last="p00"))
    members, problems = assign_splits(eyes(3), rules)
    assert members == {"train": [2], "val": [4, 5], "test": [0, 1]}
    assert [(p.case, p.kind) for p in problems] == [("p00_l", "duplicate case")]
    assert "left out of train" in problems[0].message


def test_the_same_case_id_from_two_files() -> None:
    cases = [SplitCase("a", "a", {"part": "x"}, "x/a.png"), SplitCase("a", "a", {"part": "y"}, "y/a.png")]
    rules = Splits(val=SplitRule(count=1), test=SplitRule(match={"part": "y"}))
    members, problems = assign_splits(cases, rules)
    assert members == {"train": [], "val": [], "test": [1]}
    assert [(p.case, p.kind, p.file) for p in problems] == [("a", "duplicate case", "x/a.png")]


def test_a_match_is_of_the_whole_field() -> None:
    rule = SplitRule(match={"part": "train"})
    assert rule.fits(SplitCase("a", "a", {"part": "train"}, ""))
    assert not rule.fits(SplitCase("a", "a", {"part": "training"}, ""))
    assert not rule.fits(SplitCase("a", "a", {}, ""))
    assert SplitRule(match={"case": "a.*", "patient": "p"}).fits(SplitCase("ab", "p", {}, ""))


def test_cases_that_no_rule_takes_are_in_no_split() -> None:
    rules = Splits(train=SplitRule(last="p00"), val=SplitRule(patients=["p01"]), test=SplitRule(patients=["p02"]))
    assert sum(map(len, named(eyes(5), rules).values())) == 6

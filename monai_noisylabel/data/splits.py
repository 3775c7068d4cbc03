"""Training, validation and test cases: explicit, or drawn by patient from a seed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from monai_noisylabel.data.problem import Problem

__all__ = ["SPLITS", "SplitCase", "SplitName", "SplitRule", "Splits", "assign_splits"]

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class SplitCase(NamedTuple):
    """What a split is decided by: the case, its patient, the fields of its path, and its image file."""

    case: str
    patient: str
    fields: dict[str, str]
    file: str


class SplitRule(BaseModel):
    """Which cases belong to one split. Without any entry: all that no other rule takes.

    Args:
        match: regular expressions that the fields of the image path (or ``case``, ``patient``) must match in
            full.
        first: first patient of a range, in the order of their names, inclusive.
        last: last patient of the range, inclusive.
        patients: explicit patient ids.
        cases: explicit case ids.
        count: draw this number of patients from those that fit the entries above.
        fraction: draw this fraction of them, in (0, 1), at least one patient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: dict[str, str] = {}
    first: str | None = None
    last: str | None = None
    patients: list[str] | None = None
    cases: list[str] | None = None
    count: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, lt=1)

    @field_validator("match")
    @classmethod
    def _compiles(cls, match: dict[str, str]) -> dict[str, str]:
        for field, expression in match.items():
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"{field}: {expression!r} is no regular expression ({error})") from None
        return match

    @model_validator(mode="after")
    def _one_draw(self) -> SplitRule:
        if self.count is not None and self.fraction is not None:
            raise ValueError("give count or fraction, not both")
        return self

    @property
    def draws(self) -> bool:
        """Whether the rule draws some of the patients that fit it, rather than taking all."""
        return self.count is not None or self.fraction is not None

    @property
    def is_rest(self) -> bool:
        """Whether the rule takes whatever the others leave."""
        return not self.model_dump(exclude_defaults=True)

    def fits(self, case: SplitCase) -> bool:
        """Whether a case is among those the rule takes, or draws from."""
        named = {**case.fields, "case": case.case, "patient": case.patient}
        return (
            all(re.fullmatch(pattern, named.get(field, "")) for field, pattern in self.match.items())
            and (self.first is None or case.patient >= self.first)
            and (self.last is None or case.patient <= self.last)
            and (self.patients is None or case.patient in self.patients)
            and (self.cases is None or case.case in self.cases)
        )


class Splits(BaseModel):
    """The three splits of a dataset.

    Rules that name cases without drawing come first, then those that draw, in the order train, val, test,
    from the patients nobody has taken; a fraction is one of the patients before the first draw. Then comes
    the rest. Patients are drawn as a whole. ``shuffled`` orders them by a hash of the seed and their id, so
    that one patient more or less leaves the order of the others as it is.

    Args:
        seed: seed of the shuffled order.
        order: draw patients in the order of their ids, or shuffled.
        train: training cases.
        val: validation cases, for choosing a model.
        test: test cases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    order: Literal["shuffled", "sorted"] = "shuffled"
    train: SplitRule = SplitRule()
    val: SplitRule
    test: SplitRule

    @model_validator(mode="after")
    def _only_one_rest(self) -> Splits:
        if sum(self.rule(split).is_rest for split in SPLITS) > 1:
            raise ValueError("only one of train, val, test may be without entries: it takes the rest")
        return self

    def rule(self, split: SplitName) -> SplitRule:
        """Rule of one split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]

    def ordered(self, patients: Iterable[str]) -> list[str]:
        """Patients in the order in which they are drawn."""
        if self.order == "sorted":
            return sorted(patients)
        return sorted(
            patients,
            key=lambda patient: hashlib.blake2b(f"{self.seed}/{patient}".encode(), digest_size=8).digest(),
        )


def assign_splits(cases: Sequence[SplitCase], splits: Splits) -> tuple[dict[SplitName, list[int]], list[Problem]]:
    """Distribute cases over the splits.

    Args:
        cases: cases of the dataset; two of them may wrongly have the same case id.
        splits: rules of the manifest.

    Returns:
        Indices into ``cases`` per split, in the given order, and the problems found. A case or patient that
        more than one split holds stays in the last one of train, val, test that holds it: no test case is
        ever trained on.

    Example:
        >>> cases = [SplitCase(f"p{n}_{eye}", f"p{n}", {}, "") for n in range(4) for eye in "lr"]
        >>> rules = Splits(order="sorted", val=SplitRule(count=1), test=SplitRule(first="p3"))
        >>> assign_splits(cases, rules)[0]
        {'train': [2, 3, 4, 5], 'val': [0, 1], 'test': [6, 7]}
    """
    members: dict[SplitName, list[int]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        rule = splits.rule(split)
        if not rule.draws and not rule.is_rest:
            members[split] = [index for index, case in enumerate(cases) if rule.fits(case)]
    taken = {index for indices in members.values() for index in indices}
    claimed = {cases[index].patient for index in taken}
    free = [index for index, case in enumerate(cases) if case.patient not in claimed]
    drawn: set[str] = set()
    for split in SPLITS:
        rule = splits.rule(split)
        if rule.draws:
            pool = [index for index in free if rule.fits(cases[index])]
            patients = splits.ordered({cases[index].patient for index in pool})
            number = rule.count or max(1, round((rule.fraction or 0) * len(patients)))
            chosen = set([patient for patient in patients if patient not in drawn][:number])
            members[split] = [index for index in pool if cases[index].patient in chosen]
            drawn |= chosen
    taken = {index for indices in members.values() for index in indices}
    for split in SPLITS:
        if splits.rule(split).is_rest:
            members[split] = [index for index in range(len(cases)) if index not in taken]
    return _separated(cases, members, _not_found(cases, splits))


def _not_found(cases: Sequence[SplitCase], splits: Splits) -> list[Problem]:
    """Cases and patients that a rule names and the dataset does not have."""
    missing = []
    for split in SPLITS:
        rule = splits.rule(split)
        for named, present in (
            (rule.cases, {c.case for c in cases}),
            (rule.patients, {c.patient for c in cases}),
        ):
            for name in named or ():
                if name not in present:
                    message = f"the manifest names it for split {split}, the dataset has no file of it"
                    missing.append(Problem(name, "", "not found", message, fatal=False))
    return missing


def _separated(
    cases: Sequence[SplitCase], members: dict[SplitName, list[int]], problems: list[Problem]
) -> tuple[dict[SplitName, list[int]], list[Problem]]:
    """Members with every case id once and every patient in one split."""
    holder: dict[str, str] = {}
    patient_split: dict[str, SplitName] = {}
    kept: dict[SplitName, list[int]] = {split: [] for split in SPLITS}
    for split in reversed(SPLITS):
        for index in members[split]:
            case = cases[index]
            elsewhere = patient_split.get(case.patient, split)
            if case.case in holder:
                message = f"left out of {split}: {holder[case.case]} has the same case id; rename one of them"
                problems.append(Problem(case.case, case.file, "duplicate case", message))
            elif elsewhere != split:
                message = f"left out of {split}: patient {case.patient} is also in {elsewhere}; mend the splits"
                problems.append(Problem(case.case, case.file, "duplicate patient", message))
            else:
                holder[case.case] = f"{case.file or case.case} in {split}"
                patient_split[case.patient] = split
                kept[split].append(index)
    return kept, problems

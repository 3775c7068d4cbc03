"""Options that are on or off."""

from __future__ import annotations

import pytest

from monai_noisylabel.data import check_flags


def test_truth_values_pass() -> None:
    check_flags(resume=True, amp=False)


@pytest.mark.parametrize(
    ("value", "advice"), [("false", "False"), ("true", "True"), (1, "True"), (None, "False"), ("no", "False")]
)
def test_anything_else_is_refused_with_what_to_write(value: object, advice: str) -> None:
    with pytest.raises(TypeError, match=rf"resume must be True or False.*write --resume {advice}\.$"):
        check_flags(amp=True, resume=value)

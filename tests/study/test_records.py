"""From what cells leave to tables, pictures and a page, with numbers that can be worked out by hand."""

from __future__ import annotations

import base64
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_fakes import COMMAND, plan, study

from monai_noisylabel.study.cells import cells_of
from monai_noisylabel.study.comparison import compare, uses_clean_labels
from monai_noisylabel.study.page import write_report
from monai_noisylabel.study.process import RECORD
from monai_noisylabel.study.records import Records, read_records
from monai_noisylabel.study.runner import Executor, run_study
from monai_noisylabel.study.tables import TextTable

STUDY = study(methods=["t_loss", "jocor", "tri_network"], protocol={"resamples": 200})


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which tri_network failed."""
    out = tmp_path_factory.mktemp("study") / "out"
    plan(out, fail=["tri_network"])
    run_study(STUDY, out, Executor(2, command=COMMAND))
    return out


@pytest.fixture(scope="module")
def records(out: Path) -> Records:
    return read_records(cells_of(STUDY, out), out)


def only(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def test_every_number_is_a_row(records: Records) -> None:
    # jocor, seed 1: at epoch 6 the liver of the cases is 0.72 + 0.01 (0 to 5), in the mean 0.745; the tumour 0.1 less.
    # After epoch 6 both fall by 0.01 an epoch, so that at epoch 12 they are 0.06 lower.
    rows = only(records.results, method="jocor", seed=1)
    found = dict(zip(zip(rows["model"], rows["class"], strict=True), rows["dice"], strict=True))
    assert found["b_model", "liver"] == pytest.approx(0.745)
    assert found["l_model", "liver"] == pytest.approx(0.685)
    assert found["l_model", "tumour"] == pytest.approx(0.585)
    assert found["l_model", "mean"] == pytest.approx(0.635)
    # epochs 3 to 12 lie 0.15, 0.1, 0.05, 0, 0.01, ... 0.06 lower: 0.051 in the mean
    assert found["last_10", "liver"] == pytest.approx(0.745 - 0.051)
    assert set(rows[rows["model"] == "b_model"]["epoch"]) == {6}
    assert set(rows["bundle"]) == {"jocor"}


def test_cases_of_each_model(records: Records) -> None:
    rows = only(records.cases, method="t_loss", seed=0, case="c", **{"class": "liver"})
    found = dict(zip(rows["model"], rows["dice"], strict=True))
    assert found == {
        "b_model": pytest.approx(0.62),
        "l_model": pytest.approx(0.56),
        "last_10": pytest.approx(0.62 - 0.051),
    }
    assert len(records.cases) == 8 * 3 * 6 * 2  # cells, models, cases, classes


def test_a_repeated_epoch_counts_once(out: Path, records: Records) -> None:
    path = out / "cells/phantom/missing/t_loss/seed0/eval/test_cases.csv"
    before = path.read_text()
    path.write_text(before + '12,"a","a",liver,0.25\n')
    try:
        again = read_records(cells_of(STUDY, out), out)
    finally:
        path.write_text(before)
    assert len(again.cases) == len(records.cases)
    row = only(again.cases, method="t_loss", seed=0, model="l_model", case="a", **{"class": "liver"})
    assert list(row["dice"]) == [0.25]


def test_failed_and_missing_cells_are_named(out: Path, records: Records) -> None:
    assert list(records.failed) == [f"phantom/missing/tri_network/seed{seed}" for seed in (0, 1)]
    more = study(methods=["t_loss", "jocor", "tri_network", "jcas"])
    assert read_records(cells_of(more, out), out).missing == [f"phantom/missing/jcas/seed{seed}" for seed in (0, 1)]


def test_means_gaps_ranks_and_tests(records: Records) -> None:
    table = compare(STUDY, records).set_index(["noise_of_labels", "method"])
    # L-models, mean of liver and tumour, of seeds 0 and 1: base + 0.025 - 0.06 - 0.05 and 0.02 more; clean: no fall
    jocor, t_loss = table.loc["missing", "jocor"], table.loc["missing", "t_loss"]
    noisy, clean = table.loc["missing", "baseline"], table.loc["clean", "baseline"]
    assert (noisy["l_model"], t_loss["l_model"], jocor["l_model"]) == pytest.approx((0.425, 0.525, 0.625))
    assert clean["l_model"] == pytest.approx(0.885)
    assert jocor["l_model_sd"] == pytest.approx(0.02 / np.sqrt(2))
    assert jocor["gap_closed"] == pytest.approx(0.2 / 0.46)
    assert np.isnan(noisy["gap_closed"])
    assert np.isnan(clean["gap_closed"])
    assert (jocor["rank"], t_loss["rank"], noisy["rank"]) == (1.0, 2.0, 3.0)
    # six patients, all of the same sign: 2 / 2**6, twice that by Holm with two methods
    assert jocor["p_baseline"] == t_loss["p_baseline"] == pytest.approx(2 * 2 / 64)
    assert np.isnan(jocor["p_best"])
    assert noisy["p_best"] == pytest.approx(2 * 2 / 64)
    assert 0.600 < jocor["low"] < jocor["l_model"] < jocor["high"] < 0.650
    assert (jocor["runs"], table.loc["missing", "tri_network"]["runs"]) == (2, 0)
    assert (jocor["seconds_per_epoch"], jocor["memory_mib"]) == (2.0, 512)


def test_the_headline_decides_what_is_tested(out: Path, records: Records) -> None:
    b_model = study(methods=["t_loss", "jocor"], protocol={"headline": "b_model"})
    table = compare(b_model, records).set_index(["noise_of_labels", "method"])
    assert table.loc["missing", "jocor"]["gap_closed"] == pytest.approx(0.2 / 0.4)


def test_methods_with_knowledge_of_clean_labels_are_told() -> None:
    told = {"bundle": "jocor", "overrides": {"selection#keep_rates": "oracle"}}
    inside = {"bundle": "jocor", "overrides": {"selection": {"keep_rates": "oracle"}}}
    assert uses_clean_labels(study(methods={"a": told, "b": inside, "jocor": None})) == ["a", "b"]


def test_the_report(out: Path) -> None:
    files = {path.name for path in write_report(STUDY, out)}
    assert {f"{name}.{end}" for name in ("results", "cases", "epochs", "cost") for end in ("csv", "parquet")} <= files
    for name in ("results", "cases"):
        pd.testing.assert_frame_equal(pd.read_parquet(out / f"{name}.parquet"), pd.read_csv(out / f"{name}.csv"))
    text = (out / "report.md").read_text()
    assert "| **jocor** | **2/2** | **0.625 ± 0.014** |" in text
    assert "| baseline, clean labels | 2/2 | 0.885 ± 0.014 |" in text
    assert "| tri_network | 0/2 |" in text
    assert "**2 cells failed and are in no table:**\n\n    phantom/missing/tri_network/seed0: exit status 3" in text
    assert "43 %" in text
    pictures = re.findall(r"\]\((pictures/.*?\.png)\)", text)
    assert pictures == ["pictures/phantom_missing_memorisation.png", "pictures/phantom_heat_map.png"]
    page = (out / "report.html").read_text()
    for picture in pictures:
        assert base64.b64encode((out / picture).read_bytes()).decode() in page
    assert "<tr class=best><td>jocor</td>" in page


def test_a_report_is_the_same_from_the_same_records(out: Path) -> None:
    write_report(STUDY, out)
    names = ("report.md", "results.csv", "cases.csv", "comparison.csv")
    before = {name: (out / name).read_bytes() for name in names}
    write_report(STUDY, out)
    assert {name: (out / name).read_bytes() for name in names} == before


def test_nothing_to_report_yet(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No cell in .* has finished"):
        write_report(study(), tmp_path)


def test_results_hold_no_times(out: Path, records: Records) -> None:
    """Times are never the same twice; tables that can be compared to the last byte must be without."""
    for frame in (records.results, records.cases, records.epochs):
        assert not [column for column in frame.columns if "seconds" in column or "memory" in column]
    assert "seconds_per_epoch" in records.cost.columns


def test_versions_and_devices_are_listed_once(out: Path) -> None:
    path = out / "cells/phantom/clean/baseline/seed0" / RECORD
    before = path.read_text()
    record = json.loads(before)
    record["made_by"]["device"] = "another machine"
    path.write_text(json.dumps(record))
    try:
        versions = read_records(cells_of(STUDY, out), out).versions
    finally:
        path.write_text(before)
    assert [made["device"] for made in versions] == ["another machine", "none"]


def test_text_tables_escape() -> None:
    table = TextTable("t", ("a", "b"), [("x|y", "<1>")], best=(0,))
    assert table.markdown().splitlines()[-1] == "| **x\\|y** | **<1>** |"
    assert "<td>&lt;1&gt;</td>" in table.html()


def test_pictures_of_samples(out: Path) -> None:
    image = np.arange(64, dtype=np.float16).reshape(1, 8, 8)
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:5, 2:5] = True
    cells = [f"phantom/{name}/seed0" for name in ("clean/baseline", "missing/baseline", "missing/jocor")]
    paths = [out / "cells" / cell / "eval" / "samples.npz" for cell in cells]
    sample = {"image": image, "label": masks, "pred": masks}
    arrays = {f"{case}|{key}": value for case, (key, value) in itertools.product("ab", sample.items())}
    try:
        for path in paths:
            np.savez_compressed(path, **arrays)
        write_report(STUDY, out)
        assert "(pictures/phantom_missing_samples.png)" in (out / "report.md").read_text()
        assert (out / "pictures/phantom_missing_samples.png").read_bytes().startswith(b"\x89PNG")
    finally:
        for path in paths:
            path.unlink()

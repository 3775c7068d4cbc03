"""The page: what is in it, how large it is, and that it asks nothing of a network."""

from __future__ import annotations

import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from dataset_files import manifest

from monai_noisylabel.audit.charts import review_chart, type_chart
from monai_noisylabel.audit.findings import Finding, write_findings
from monai_noisylabel.audit.page import CaseRow, write_cases, write_page
from monai_noisylabel.data import DatasetSpec

EVIL = "</script><img src=x onerror=alert(1)>"


class _Page(HTMLParser):
    """Elements of a page with their attributes, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data: str) -> None:
        if self.open == "script":
            self.scripts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    return DatasetSpec(manifest(), tmp_path, ("liver", "tumour"), 3, [], [], [])


def _findings(out: Path, cases: int, each: int) -> list[Finding]:
    """Findings with pictures of random, that is incompressible, content."""
    rng = np.random.default_rng(0)
    (out / "overlays").mkdir(parents=True)
    found = []
    for number in range(cases * each):
        name = f"overlays/{number}.webp"
        (out / name).write_bytes(rng.bytes(20_000))
        case, kind = f"case{number // each:03d}", ("missing", "spurious", "island")[number % 3]
        suspicion = 1 - number / (cases * each)
        found.append(Finding(case, "liver", kind, suspicion, 0.9, f"message {number}", "model", 5, overlay=name))
    return found


def test_200_cases_in_one_file_that_is_enough(spec: DatasetSpec, tmp_path: Path) -> None:
    findings = _findings(tmp_path, 200, 3)
    rows = [CaseRow(f"case{n:03d}", f"p{n}", 1 - n / 200, 3, 2.7, {"liver": 0.5, "tumour": 0.1}) for n in range(200)]
    path = write_page(spec, findings, rows, tmp_path, with_model=True)
    assert path.stat().st_size < 20 * 2**20
    text = path.read_text(encoding="utf-8")
    page = _Page(text)
    assert not [
        attributes
        for _, attributes in page.elements
        if attributes.get("src") or attributes.get("href", "#")[:1] not in "#"
    ]  # type: ignore[index,operator]
    assert not page.of("link")
    assert not re.search(r"url\(\s*[\"']?(?!#)|@import|fetch\(|XMLHttpRequest", text)
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")
    pictures = json.loads(page.scripts[0])
    assert base64.b64decode(pictures["overlays/7.webp"]) == (tmp_path / "overlays/7.webp").read_bytes()
    assert [a["data-picture"] for a in page.of("button") if a.get("class") == "thumb"] == list(pictures)
    assert len(pictures) == 600
    assert text.count("<tr") == 2 + 600 + 200
    assert all(a.get("aria-label") for a in page.of("button") if a.get("class") == "thumb")


def test_names_are_only_text(spec: DatasetSpec, tmp_path: Path) -> None:
    (tmp_path / "overlays").mkdir()
    name = f"overlays/{EVIL.replace('/', '')}.webp"
    (tmp_path / name).write_bytes(b"x")
    findings = [Finding(EVIL, "liver", EVIL, 0.5, 0.5, EVIL, "model", overlay=name)]
    path = write_page(spec, findings, [CaseRow(EVIL, EVIL, 0.5, 1, 0.5, {})], tmp_path, with_model=True)
    page = _Page(path.read_text(encoding="utf-8"))
    assert len(page.of("script")) == 2
    assert len(page.of("img")) == 1
    assert json.loads(page.scripts[0]) == {name: "eA=="}


def test_nothing_found(spec: DatasetSpec, tmp_path: Path) -> None:
    path = write_page(spec, [], [CaseRow("a", "a", 0.0, 0, 0.0, {"liver": 0.0})], tmp_path, with_model=False)
    assert "only the checks were made that need no model" in path.read_text(encoding="utf-8")
    path = write_page(spec, [], [], tmp_path, with_model=False)
    assert "<b>0</b>cases" in path.read_text(encoding="utf-8")


def test_the_review_curve_says_after_how_many_cases() -> None:
    # 8 of 10 errors are in the first two cases
    svg, enough = review_chart([0.9, 0.8, 0.1, 0.0], [5.0, 3.0, 2.0, 0.0])
    assert enough == 2
    assert svg.startswith("<svg")
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg).replace("http://www.w3.org", "")


def test_tables(tmp_path: Path) -> None:
    findings = [
        Finding("a", "liver", "hole", 0.1, 0.5, 'said "so", twice', "check", shift=-1.23456789),
        Finding("b", "", "unreadable", 1.0, 1.0, "gone", "check"),
    ]
    write_findings(findings, tmp_path / "audit.csv")
    rows = list(csv.DictReader((tmp_path / "audit.csv").open()))
    assert [(row["rank"], row["case"], row["suspicion"], row["shift"]) for row in rows] == [
        ("1", "b", "1", ""),
        ("2", "a", "0.1", "-1.23457"),
    ]
    assert rows[1]["message"] == 'said "so", twice'
    cases = [CaseRow("b", "p", 1.0, 1, 1.0, {}), CaseRow("a", "q", 0.25, 2, 0.5, {"liver": 0.25})]
    write_cases(cases, ["liver"], tmp_path / "cases.csv")
    rows = list(csv.DictReader((tmp_path / "cases.csv").open()))
    assert [(row["case"], row["score"], row["liver"]) for row in rows] == [("b", "1", ""), ("a", "0.25", "0.25")]


def test_chart_of_kinds_names_every_bar() -> None:
    names = [f"kind {letter}" for letter in "abcdefghijklmn"]
    svg = type_chart([(name, 3) for name in names])
    assert [name for name in names if f">{name}<" not in svg] == []

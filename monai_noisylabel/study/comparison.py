"""The methods of a study side by side, on each dataset under each noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from monai_noisylabel.study.cells import BASELINE
from monai_noisylabel.study.records import Records
from monai_noisylabel.study.spec import CLEAN, Study
from monai_noisylabel.study.statistics import bootstrap_interval, gap_closed, holm, mean_ranks, paired_p

__all__ = ["MODELS", "compare", "settings_of", "uses_clean_labels"]

MODELS = {"l_model": "L-model", "last_10": "last 10 epochs", "b_model": "B-model"}


def settings_of(study: Study) -> Iterator[tuple[str, str]]:
    """Every dataset with every noise that it is studied under."""
    for dataset, entry in study.datasets.items():
        for noise in entry.noise or study.noise:
            yield dataset, noise


def compare(study: Study, records: Records) -> pd.DataFrame:
    """One row per dataset, noise and method, the baseline on clean labels among them (``noise_of_labels`` clean).

    Its columns: ``runs`` that finished; the mean over seeds of each model's test Dice and, as ``<model>_sd``, its
    standard deviation over seeds; of the protocol's headline model ``low`` and ``high``, the bootstrap interval
    over test patients of the mean over seeds, ``gap_closed``, and ``rank``, the mean over patients among the
    methods on noisy labels; ``p_baseline`` and ``p_best`` of Wilcoxon's signed-rank test over patients, against the
    noisy baseline and against the method with the best mean, each corrected by Holm over the methods; and
    ``seconds_per_epoch`` and ``memory_mib``, means over seeds.
    """
    parts = [_setting(study, records, dataset, noise) for dataset, noise in settings_of(study)]
    return pd.concat(parts, ignore_index=True)


def uses_clean_labels(study: Study) -> list[str]:
    """Methods that are told what only clean labels can tell, by an option with the value ``oracle``."""
    return [
        name for name, entry in study.methods.items() if entry is not None and _mentions_oracle({**entry.overrides})
    ]


def _mentions_oracle(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_mentions_oracle, value.values()))
    return value == "oracle"


def _setting(study: Study, records: Records, dataset: str, noise: str) -> pd.DataFrame:
    others = [name for name in study.methods if name != BASELINE]
    keys = [(CLEAN, BASELINE), *((noise, method) for method in (BASELINE, *others))]
    frame = pd.DataFrame([_row(study, records, dataset, labels, method) for labels, method in keys])
    clean, noisy = frame.iloc[0], frame.iloc[1]
    headline = study.protocol.headline
    frame["gap_closed"] = [gap_closed(value, noisy[headline], clean[headline]) for value in frame[headline]]
    frame.loc[:1, "gap_closed"] = np.nan
    frame = frame.assign(rank=np.nan, p_baseline=np.nan, p_best=np.nan)
    _rank(frame, _patient_scores(records, dataset, noise, headline))
    return frame.assign(dataset=dataset, noise=noise)


def _row(study: Study, records: Records, dataset: str, labels: str, method: str) -> dict[str, object]:
    chosen = {"dataset": dataset, "noise": labels, "method": method}
    results, cost = _where(records.results, **chosen, **{"class": "mean"}), _where(records.cost, **chosen)
    row: dict[str, object] = {"noise_of_labels": labels, "method": method, "runs": len(cost)}
    for model in MODELS:
        dice = results.loc[results["model"] == model, "dice"].astype(float)
        row |= {model: dice.mean(), f"{model}_sd": dice.std()}
    cases = case_table(records, model=study.protocol.headline, **chosen)
    row["low"], row["high"] = (
        bootstrap_interval(
            cases.to_numpy(),
            [patient for _, patient in cases.index],
            study.protocol.resamples,
            study.protocol.confidence,
        )
        if len(cases)
        else (np.nan, np.nan)
    )
    memory = cost["peak_gpu_memory_mib"].fillna(cost["peak_memory_mib"]).astype(float)
    return {**row, "seconds_per_epoch": cost["seconds_per_epoch"].astype(float).mean(), "memory_mib": memory.mean()}


def case_table(records: Records, **chosen: str) -> pd.DataFrame:
    """Dice per test case, with its patient, and class; the mean over seeds."""
    cases = _where(records.cases, **chosen)
    return cases.pivot_table(index=["case", "patient"], columns="class", values="dice", aggfunc="mean", dropna=False)


def _where(frame: pd.DataFrame, **values: str) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def _patient_scores(records: Records, dataset: str, noise: str, model: str) -> pd.DataFrame:
    """Mean Dice per patient and method."""
    cases = _where(records.cases, dataset=dataset, noise=noise, model=model)
    classes = cases.groupby(["method", "patient", "class"], sort=False)["dice"].mean()
    return classes.groupby(["method", "patient"], sort=False).mean().unstack("method")


def _rank(frame: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Fill in ranks and tests, of the methods that have results."""
    noisy = frame[(frame["noise_of_labels"] != CLEAN) & frame["method"].isin(scores.columns)]
    if noisy.empty:
        return
    ordered = scores[list(noisy["method"])].to_numpy(dtype=float)
    frame.loc[noisy.index, "rank"] = mean_ranks(ordered)
    best = int(np.nanargmax(np.nanmean(ordered, axis=0)))
    references = {"p_best": best}
    if BASELINE in set(noisy["method"]):
        references["p_baseline"] = list(noisy["method"]).index(BASELINE)
    for column, reference in references.items():
        tested = [number for number in range(len(noisy)) if number != reference]
        found = [paired_p(ordered[:, number], ordered[:, reference]) for number in tested]
        frame.loc[noisy.index[tested], column] = holm(found)

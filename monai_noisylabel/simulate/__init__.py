"""Datasets with simulated label noise, as files."""

from monai_noisylabel.simulate.simulation import SimulationReport, simulate_dataset

__all__ = ["SimulationReport", "simulate_dataset"]

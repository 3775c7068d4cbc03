"""Studies: methods x datasets x noise x seeds, run and reported by one command."""

from monai_noisylabel.study.case_record import CaseRecord
from monai_noisylabel.study.spec import Study, load_study, presets

__all__ = ["CaseRecord", "Study", "load_study", "presets"]

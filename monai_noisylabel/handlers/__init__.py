"""Ignite handlers that follow and steer a training with noisy labels."""

from monai_noisylabel.handlers.best_model import BestModel, load_weights
from monai_noisylabel.handlers.best_teachers import BestTeachers
from monai_noisylabel.handlers.case_dice import CaseDice, write_case_table
from monai_noisylabel.handlers.case_weights import CaseWeights
from monai_noisylabel.handlers.confident_learning import ConfidentLearning
from monai_noisylabel.handlers.confident_relabel import ConfidentRelabel
from monai_noisylabel.handlers.curriculum import ClassCurriculum
from monai_noisylabel.handlers.epoch_start import EpochStart
from monai_noisylabel.handlers.keep_rates import KeepRates
from monai_noisylabel.handlers.keep_unlearned import KeepUnlearned
from monai_noisylabel.handlers.label_cleansing import LabelCleansing
from monai_noisylabel.handlers.originals_guard import OriginalsGuard
from monai_noisylabel.handlers.progress import Progress
from monai_noisylabel.handlers.published import PublishedValues
from monai_noisylabel.handlers.run_history import RunHistory
from monai_noisylabel.handlers.run_report import RunReport
from monai_noisylabel.handlers.superpixel_refinement import SuperpixelRefinement
from monai_noisylabel.handlers.superpixel_relabel import SuperpixelRelabel
from monai_noisylabel.handlers.sync_buffers import SyncBuffers
from monai_noisylabel.handlers.training_state import TrainingState
from monai_noisylabel.handlers.weight_average import WeightAverage

__all__ = [
    "BestModel",
    "BestTeachers",
    "CaseDice",
    "CaseWeights",
    "ClassCurriculum",
    "ConfidentLearning",
    "ConfidentRelabel",
    "EpochStart",
    "KeepRates",
    "KeepUnlearned",
    "LabelCleansing",
    "OriginalsGuard",
    "Progress",
    "PublishedValues",
    "RunHistory",
    "RunReport",
    "SuperpixelRefinement",
    "SuperpixelRelabel",
    "SyncBuffers",
    "TrainingState",
    "WeightAverage",
    "load_weights",
    "write_case_table",
]

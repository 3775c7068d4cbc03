"""Datasets: manifests, checks, preprocessing, the embedded phantom, and the store of labels that change."""

from monai_noisylabel.data.check import check_dataset
from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset
from monai_noisylabel.data.dicom_seg_writer import SegmentInfo, write_dicom_seg
from monai_noisylabel.data.dicom_series import read_series
from monai_noisylabel.data.dicom_slices import DicomError
from monai_noisylabel.data.flags import check_flags
from monai_noisylabel.data.fold_batch import FoldBatch
from monai_noisylabel.data.folds import patient_folds, with_folds
from monai_noisylabel.data.inference_items import describe_dataset, inference_items
from monai_noisylabel.data.label_export import export_labels
from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.data.label_writer import LabelWriter
from monai_noisylabel.data.manifest import Manifest, load_manifest, shipped_manifests
from monai_noisylabel.data.phantom import cached_phantom, make_phantom
from monai_noisylabel.data.predicted_labels import PredictedLabels
from monai_noisylabel.data.preprocess import preprocessing
from monai_noisylabel.data.problem import Problem
from monai_noisylabel.data.unaugmented import unaugmented

__all__ = [
    "DatasetSpec",
    "DicomError",
    "FoldBatch",
    "LabelStore",
    "LabelWriter",
    "Manifest",
    "PredictedLabels",
    "Problem",
    "SegmentInfo",
    "cached_phantom",
    "check_dataset",
    "check_flags",
    "describe_dataset",
    "export_labels",
    "inference_items",
    "load_dataset",
    "load_manifest",
    "make_phantom",
    "patient_folds",
    "preprocessing",
    "read_series",
    "shipped_manifests",
    "unaugmented",
    "with_folds",
    "write_dicom_seg",
]

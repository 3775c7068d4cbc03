"""Audit of a dataset's labels: which are wrong, where, how, and which to look at first."""

from monai_noisylabel.audit.dataset_audit import AuditReport, audit_dataset
from monai_noisylabel.audit.folds import BundleFolds

__all__ = ["AuditReport", "BundleFolds", "audit_dataset"]

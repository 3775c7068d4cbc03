"""A MONAI Label app: review of labels that an audit suspects, and the bundles of this library served and trained."""

from monai_noisylabel.label_app.current import current_dataset
from monai_noisylabel.label_app.export import ReviewExport, export_reviewed
from monai_noisylabel.label_app.preparation import prepare_workspace
from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.workspace import Workspace, open_workspace

__all__ = [
    "Review",
    "ReviewExport",
    "Workspace",
    "current_dataset",
    "export_reviewed",
    "open_workspace",
    "prepare_workspace",
]

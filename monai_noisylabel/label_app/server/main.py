"""The file that MONAI Label looks for in an app's folder, into which it is copied."""

from monai_noisylabel.label_app.server.app import NoisyLabelApp

__all__ = ["NoisyLabelApp"]

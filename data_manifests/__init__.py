"""The manifests that come with the library: one JSON file describes one dataset."""

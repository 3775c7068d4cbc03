"""The bundles that come with the library: one folder is one method."""

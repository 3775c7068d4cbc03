"""Audit of a dataset's labels."""

"""Releases that stock classes load: written, described, searched, uploaded and read back."""

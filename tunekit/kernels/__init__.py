"""Epilogues, templates, and the library of fused ops."""

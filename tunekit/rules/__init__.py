"""The rules of fusion, read from a compiled kernel."""

"""A drop-in for `triton.autotune` that keeps, verifies and serves what was measured.

`decorator` is what a person writes, `autotuned` what a call does, `forms` what the later calls of a
kind do, `serving` which rows may be served. `tuning` measures on a miss, by `live`, and is imported
when there is one.
"""

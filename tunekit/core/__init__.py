"""The vocabulary: plain data, no torch, triton or optuna."""

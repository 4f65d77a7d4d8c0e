"""Hardware counters of a launch, by Nsight Compute."""

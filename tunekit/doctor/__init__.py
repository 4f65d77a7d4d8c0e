"""Whether everything is as tunekit needs it, and what to do where it is not.

A file a family of checks. What may crash or hang (PyTorch, the driver, the compiler) is asked in a
process of its own (`tunekit.doctor.probe`), so that the doctor always has an answer.
"""

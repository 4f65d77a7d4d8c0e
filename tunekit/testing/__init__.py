"""What the author of a kernel puts into their own test suite.

    import pytest
    import tunekit.testing
    from my_kernels import softmax

    @pytest.mark.parametrize("case", tunekit.testing.cases(softmax), ids=str)
    def test_softmax(case):
        case.check()

    def test_softmax_at_our_sizes():
        tunekit.testing.check_kernel(softmax, shapes=[(64, 1000)], dtypes=["bfloat16"])

Kernels run on a GPU, or under `TRITON_INTERPRET=1` in Triton's interpreter, on the CPU.
"""

from tunekit.testing.cases import Case, cases
from tunekit.testing.check import check_kernel
from tunekit.testing.report import Refusal, Report

__all__ = ["Case", "Refusal", "Report", "cases", "check_kernel"]

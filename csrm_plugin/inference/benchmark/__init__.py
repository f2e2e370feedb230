"""What networks and refinements cost: parameters, multiply-adds, and time as a ratio to the first of one run.

Seconds depend on the machine and on what else it does. So everything that is compared runs in one process, in turn
(A B A B ...), and what is reported beside the median is the ratio to the first, taken round by round.
"""

from csrm_plugin.inference.benchmark.compare import compare_inference, compare_refinement
from csrm_plugin.inference.benchmark.printing import notes, table

__all__ = ['compare_inference', 'compare_refinement', 'notes', 'table']

"""Training and testing one model: the loop, its hooks, launching."""

from csrm_plugin.engine import cpu_data_parallel, hooks, optim_constructor, optim_wrapper  # noqa: F401  (registers)

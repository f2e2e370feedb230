from csrm_plugin.engine import hooks, optim_constructor, optim_wrapper  # noqa: F401  (registers)

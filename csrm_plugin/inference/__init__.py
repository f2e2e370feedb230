"""From a checkpoint to labels, scores, pictures and exports.

One entry for each command of ``tools/``: ``pseudo_labels``, ``predict``, ``evaluate_labels``, ``audit_labels``,
``sam_masks``, ``refine_sam``, ``export_model``, ``export_voc``, ``benchmark``, ``browsing``. Beside them what several
stand on: ``views`` (pictures at several scales), ``predictor`` (the averages of a model over them), ``finished`` (what
an earlier call has made), ``arguments``. The model itself comes from :mod:`csrm_plugin.models.checkpoints.prediction`.
"""

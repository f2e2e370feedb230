"""Hand a trained segmentation network over to programs that know only the host, or only ONNX.

A folder is written: ``model.pth`` and ``config.py``, an ``EncoderDecoder`` for :func:`mmseg.apis.init_model`; where
asked for ``model.onnx``; and ``export.json`` with the largest difference to the original network. What differs by more
than :data:`csrm_plugin.inference.export_model.comparison.TOLERANCES` is not written at all.
"""

from csrm_plugin.inference.export_model.export import export_model, parse_size

__all__ = ['export_model', 'parse_size']

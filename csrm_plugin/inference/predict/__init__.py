"""Predictions for any pictures: label maps and overlays."""

from csrm_plugin.inference.predict.pictures import predict_pictures

__all__ = ['predict_pictures']

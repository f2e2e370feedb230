"""Pseudo labels of a split from a trained model: inference, restriction to the image labels, threshold, dCRF, files."""

from csrm_plugin.inference.pseudo_labels.make import make_pseudo_labels, split_dataset
from csrm_plugin.inference.pseudo_labels.settings import LabelSettings

__all__ = ['LabelSettings', 'make_pseudo_labels', 'split_dataset']

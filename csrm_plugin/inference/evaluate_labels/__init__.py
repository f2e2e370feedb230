"""Scores of a folder of label maps, or of CAMs over background scores, against masks."""

from csrm_plugin.inference.evaluate_labels.evaluate import evaluate_label_folder
from csrm_plugin.inference.evaluate_labels.printing import print_report

__all__ = ['evaluate_label_folder', 'print_report']

"""What the pixel labels that a training would learn from are worth, on pictures that have masks.

A tool of evaluation: no training reads the masks, or what comes out, but through the person who reads it.
"""

from csrm_plugin.inference.audit_labels.audit import audit_labels
from csrm_plugin.inference.audit_labels.plotting import plot_audit
from csrm_plugin.inference.audit_labels.printing import print_audit

__all__ = ['audit_labels', 'plot_audit', 'print_audit']

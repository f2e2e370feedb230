# The classifier, instance and feature level; no affinity to propagate with.
_base_ = '../rml_voc.py'
model = dict(loss_pixel=None)

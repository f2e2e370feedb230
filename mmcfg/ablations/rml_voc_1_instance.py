# The classifier and the instance level; no affinity to propagate with.
_base_ = '../rml_voc.py'
model = dict(loss_feature=None, loss_pixel=None)

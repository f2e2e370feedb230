# The classifier alone: none of the three levels of mutual learning, and so no affinity to propagate with.
_base_ = '../rml_msrc.py'
model = dict(loss_instance=None, loss_feature=None, loss_pixel=None)

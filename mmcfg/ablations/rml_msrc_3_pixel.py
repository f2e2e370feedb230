# The classifier and all three levels, which is the whole method: propagated CAMs.
_base_ = '../rml_msrc.py'

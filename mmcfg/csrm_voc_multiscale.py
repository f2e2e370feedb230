# CSRM on VOC 2012 whose teacher sees the pictures at several sizes when it makes the pseudo labels: recommended.
_base_ = 'csrm_voc.py'

# The paper's labels stand on one CAM of 32 x 32 positions. This is seven passes of the teacher where one was.
model = dict(pseudo_label=dict(scales=(0.5, 1.0, 1.5), flip=True))

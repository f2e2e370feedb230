# Table 1 of the paper, row 1: loss_c and loss_s alone.
_base_ = '../csrm_voc_animals.py'
model = dict(loss_s2c=None, loss_u=None, loss_m=None)

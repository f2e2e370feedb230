# Table 1 of the paper, row 2: row 1 and loss_s2c.
_base_ = '../csrm_voc_animals.py'
model = dict(loss_u=None, loss_m=None)

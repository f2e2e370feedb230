# Table 1 of the paper, row 3: row 2 and loss_u.
_base_ = '../csrm_voc_animals.py'
model = dict(loss_m=None)

# Table 1 of the paper, row 4: row 3 and loss_m, which is the whole method.
_base_ = '../csrm_voc.py'

"""What knows the figures of CSRM's paper: the published numbers, the table, the doctor, the delta_fg chart."""

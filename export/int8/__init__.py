"""INT8: calibration, Q/DQ pairs, what stays in float."""

"""The Siamese pair head: fitted, calibrated, measured, reported."""

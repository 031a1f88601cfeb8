"""Every model on every data set: how much is lost away from home, and what helps there without labels."""

"""What a person sees of evaluations: tables, CMC curves, and whether one model is better than another."""

"""Training: recipes, models, losses and the loop. Installed as reid_edge.training, with the train extra."""

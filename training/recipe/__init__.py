"""A recipe: settings, losses, learning-rate schedule."""

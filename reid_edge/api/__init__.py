"""The main job from Python: what the commands and other programs call."""

"""`reid_edge.doctor`: what is on this machine, what is missing, and whether the engines that run here agree."""

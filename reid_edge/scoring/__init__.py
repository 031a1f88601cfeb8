"""Distances, and the figures of a ranking: CMC, mAP and mINP."""

"""Hooks of other projects' trackers, which get their appearance embeddings from an Embedder.

None of those packages is imported: each file names the documented attributes that it reads or sets, and the versions
that it was tried with. `reid_edge.embedder.tracks.Tracks` turns what a tracker returns into an embedding a track.
"""

"""Files for other programs that run an exported model: DeepStream's tracker, Triton, and trtexec's command line."""

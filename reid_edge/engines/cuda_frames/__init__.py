"""Frames that are on the GPU already: crops are cut, converted and resized there by one kernel, ``crops.cu``."""

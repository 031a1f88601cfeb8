"""Shared by everything: files written whole, arrays from untrusted files, progress, logging."""

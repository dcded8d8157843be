"""Data: plain-text worlds, tokenizers, cached sources and streams."""

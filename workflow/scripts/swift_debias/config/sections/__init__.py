"""The sections of the configuration, a file each; `../schema.py` is their door."""

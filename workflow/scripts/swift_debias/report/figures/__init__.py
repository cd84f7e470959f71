"""The drawings, one file each."""

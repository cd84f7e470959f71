"""What a run writes and how its jobs run: files, logs, identity of code."""

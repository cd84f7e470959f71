"""What a run is told: typed settings, their reading, and what has to be computed."""

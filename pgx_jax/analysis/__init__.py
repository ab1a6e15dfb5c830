"""What a run is analysed with."""

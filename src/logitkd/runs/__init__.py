"""What a run is: its settings, its folder, its plan."""

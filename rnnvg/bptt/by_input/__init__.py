"""What `input_profile` needs to read any module: a copy that runs, its axes, the range of its numbers, a second route."""

"""Floor 2: pictures with boxes."""

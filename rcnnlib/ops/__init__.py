"""Floor 1: pure functions of tensors, batch first, on any device."""

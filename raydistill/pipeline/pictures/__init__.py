"""Steps that several stages share: choose black and white, prepare pictures."""

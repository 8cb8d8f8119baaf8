"""The generate stage; see `stage`."""

"""The page of the demo: events in, `authentication/` decides, pictures out."""

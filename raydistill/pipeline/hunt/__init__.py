"""The hunt stage: rank rare objects for a person, or compare strategies with a scripted labeller."""

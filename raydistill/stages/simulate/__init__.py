"""The simulate stage: render a survey whose truth is known."""

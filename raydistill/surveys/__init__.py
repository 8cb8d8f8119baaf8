"""Open the pictures of a survey of any form: a config, an artifact, or a folder."""

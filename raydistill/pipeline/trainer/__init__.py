"""The trainer, which distils one set: used by the distill and tune stages."""

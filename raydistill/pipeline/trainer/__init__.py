"""The distillation trainer: one run of distillation, shared by the distill and tune stages."""

"""Define the hyper-parameters of trainings, without torch.

Configs are made of them, and a config is read before anything heavy is imported."""

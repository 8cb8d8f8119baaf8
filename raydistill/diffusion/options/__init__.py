"""Define the hyper-parameters of generators, without torch.

Configs are made of them, and a config is read before anything heavy is imported.
"""

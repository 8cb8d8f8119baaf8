"""Define the hyper-parameters of core's algorithms, without torch.

Configs are made of them, and a config is read before anything heavy is imported. The module of the
same name in `core` has the algorithm.
"""

"""Populations of networks: AnyNet and RegNet, draws from them, and what their errors tell."""

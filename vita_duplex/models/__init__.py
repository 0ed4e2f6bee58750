"""The models: default ones that come in packages, and vLLM plugins."""

"""The engines that answer: vLLM with VITA, text models, servers elsewhere, a script."""

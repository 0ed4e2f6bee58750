"""A real-time, duplex speech server for VITA on vLLM."""

import os

__version__ = "0.1.0"

# onnxruntime's wheels report usage to their maker unless this is set before they are imported. People's
# conversations pass through here: nothing phones home. (vLLM's own statistics: `engine/vllm_engine.py`.)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

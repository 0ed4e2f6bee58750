"""`vita-duplex` with FSDP2 between processes that have no accelerator.

`accelerate` shards on accelerators only; torch's FSDP2 itself runs over gloo. Here a state that found several
processes without an accelerator is told that they shard. Nothing else is changed.
"""

import os

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

_init = AcceleratorState.__init__


def _sharding(self: AcceleratorState, *args: object, fsdp_plugin: object = None, **kwargs: object) -> None:
    _init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if self.distributed_type is DistributedType.MULTI_CPU and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


AcceleratorState.__init__ = _sharding

if __name__ == "__main__":
    from vita_duplex.cli.main import main

    main()

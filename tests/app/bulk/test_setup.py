"""What a model on this machine is set up with."""

import os
import subprocess
import sys

from app.device.launch import VARIABLES


def test_the_threads_of_the_network_are_set_up_as_the_worker_s_before_torch_reads_how() -> None:
    code = (
        "import os, sys; from app.bulk.setup import LocalSetup; loaded = 'torch' in sys.modules; "
        "LocalSetup('tiny-clip-agiqa', 'cpu', 'float32').connect(); "
        "print(loaded, os.environ['GOMP_SPINCOUNT'], os.environ['LRU_CACHE_CAPACITY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment["LRU_CACHE_CAPACITY"] = "300"  # what somebody set stays
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["False", VARIABLES["GOMP_SPINCOUNT"], "300"]

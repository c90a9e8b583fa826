"""The main job as a Ray job: ``ray job submit --working-dir . -- python jobs/rollout.py CONFIG --compare prefill_only,scheduled``.

Takes the flags of ``dualpath rollout`` and runs on the cluster it was submitted to; the log says where the live page is.
"""

import sys

from dualpath_ray.cli.main import main

if __name__ == "__main__":
    given = sys.argv[1:]
    sys.argv = ["dualpath", "rollout", "--address", "auto", "--ui-port", "0", *given]  # later ones win
    main()

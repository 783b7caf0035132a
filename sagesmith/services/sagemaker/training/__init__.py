"""Training jobs: an algorithm's image, channels of data and hyperparameters in; a model in S3 out.

    CreateTrainingJob -> Launching -> Watching -> Finishing -> Completed | Failed | Stopped
                            ^  |         |  |         ^
       no room: Pending, -->+--+         |  +-------->|  all hosts exited, or the time is up and they are stopped
       again later          ^            v            |
                        Restarting <-- Ending --------+  a host failed or was lost: the others are ended with it
                                         ^
    StopTrainingJob from any state -> Stopping -------+

- `operations.py`: the six operations. `checks.py`: what only meaning can check, and what is refused by name.
- `record.py`: the document, DescribeTrainingJob and the SecondaryStatusTransitions.
- `paper.py`: the gang, one agent per instance. `progress.py`: what the agents' reports say of the gang as a whole.
- `steps.py`: the machine of the chart. The state is ours; SecondaryStatus is AWS's and follows the reports.
"""

from __future__ import annotations

from sagesmith.services.sagemaker.training import operations, steps

__all__ = ["operations", "steps"]

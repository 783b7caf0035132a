"""Endpoints: models that answer requests, watched for as long as they exist.

    CreateEndpoint -> Creating -----------------> InService <-------------------- Scaling
                         |                         |  ^  |  UpdateEndpointWeights     ^
                         v          UpdateEndpoint |  |  +--- AndCapacities ----------+
                       Failed                      v  |
                                Updating -> Baking -> Terminating
                                    |          |
                                    +----------+--> RollingBack -> InService (with FailureReason)
    DeleteEndpoint from any state -> Deleting -> gone

- `fleet.py`: the instances of one deployment. One instance is one gang with an agent per container of the model, so
  instances come, go and are replaced one by one.
- `snapshot.py`: what a deployment serves, copied from its configuration and models, which may then be deleted.
- `steps.py`: the machine of the chart. `operations.py`: the six operations. `policy.py`: DeploymentConfig.

Requests find the instances through the routes in the document (`services/routes.py`), which change in one commit.
"""

from __future__ import annotations

from sagesmith.services.sagemaker.endpoints import operations, steps

__all__ = ["operations", "steps"]

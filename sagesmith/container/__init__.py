"""Floor 2: what runs inside a job: `train` and `serve` over a folder that stands for /opt/ml."""

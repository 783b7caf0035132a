"""The agent: on every host of a gang, stages data in, runs the job, ships its logs and metrics, stages results out.

`python -m sagesmith.agent PAPER.json` is started by an engine. It outlives the server, and never makes the job wait
for it. Which file does what:

    host.py          the life of an agent from its paper to its exit, whatever the kind of job
    training.py      kind training: stage in, run, stage out
    endpoint.py      kind endpoint: a server process that is kept alive and answers /ping
    staging_in.py    configuration files, channels and models     channels.py  what a channel consists of
    pipes.py         Pipe channels                                staging_out.py  model, output, merging of hosts
    checkpoints.py   restored at the start, copied while training rendezvous.py  hosts that wait for each other
    process.py       the job's process and its clean environment  connection.py  the server, found again and again
    spool.py log_shipping.py  log lines     metrics.py  what is scraped and measured     reporting.py  the Report
    nursery.py       forks agents that have their imports behind them
"""

"""The retrain webhook: an alert of Alertmanager becomes one retraining. `python -m monitoring.retrain --help`.

What happens to a notification, from top to bottom:

    app.py          who may post, how much, what it is answered
    payload.py      Alertmanager's webhook, version 4
    coordinator.py  is there something to do: labels, duplicates, cooldown; then one call of the target
    store.py        what has been done already, in an sqlite file that survives any end of the process
    github.py       target: `repository_dispatch` starts a workflow
    job.py          target: a command on this machine
    audit.py, metrics.py, settings.py
"""

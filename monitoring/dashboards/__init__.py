"""What Grafana shows, written in Python with Grafana's own builders for one version of its schema: `make dashboards`.

    __main__.py             writes monitoring/grafana/dashboards/*.json
    parts.py, boards.py     panels and dashboards as they look here
    service.py, model.py, challenger.py, pipeline.py, runbook.py, alerts.py     what is in them

Panels ask for what the rules in monitoring/prometheus/rules have recorded, where there is such a thing.
"""

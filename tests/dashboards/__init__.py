"""Draws the dashboards of deploy/grafana from their JSON and the answers of a Prometheus, for documents and tests.

Not Grafana: what is drawn follows its rules as far as our dashboards use them, and nothing here is shipped.
"""

"""The dashboard is one that Grafana reads: every field of it is in Grafana's own schema (its Foundation SDK is made of it)."""

import copy
import json

import pytest
from conftest import DEPLOY
from grafana_foundation_sdk.cog import encoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models import prometheus
from test_objects import lost

DASHBOARD = json.loads((DEPLOY / "grafana" / "cloudpose.json").read_text())
register_default_plugins()


def read(document):
    """The dashboard as the schema's types have it, and the same written again."""
    typed = schema.Dashboard.from_json(document)
    return typed, json.loads(encoder.JSONEncoder().encode(typed))


def test_grafana_knows_every_field():
    typed, again = read(DASHBOARD)
    assert lost(DASHBOARD, again) == []
    panels = [panel for panel in typed.panels if isinstance(panel, schema.Panel)]
    assert len(panels) > 10
    for panel in panels:
        # A kind of panel or of query that the schema lacks would be read as a bare dictionary.
        assert not isinstance(panel.options, dict), (panel.title, panel.type_val)
        assert panel.targets and all(isinstance(target, prometheus.Dataquery) for target in panel.targets), panel.title


@pytest.mark.parametrize("wrong", [
    lambda panel: panel.update(tragets=[]),
    lambda panel: panel["fieldConfig"]["defaults"].update(units="s"),
    lambda panel: panel["options"].update(legends={}),
    lambda panel: panel["targets"][0].update(expression="up"),
])
def test_what_grafana_knows_not_is_found(wrong):
    document = copy.deepcopy(DASHBOARD)
    wrong(next(panel for panel in document["panels"] if panel["type"] == "timeseries"))
    assert lost(document, read(document)[1])

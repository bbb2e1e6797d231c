"""Parses an exposition from standard input with Prometheus' own client; prints it as JSON:
{name: {"type": ..., "samples": [[name, labels, value], ...]}}."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    assert family.name not in families, f"{family.name} stands twice"
    assert family.documentation, f"{family.name} has no help"
    families[family.name] = {"type": family.type, "samples": samples}
print(json.dumps(families))

"""Writes deploy/llm-worker-pool.yaml from the chart: `make manifests`. Needs Helm (HELM names another than PATH's).

The operator, its rights, its network policy and the CRD, for those who install with kubectl alone. What only Helm
looks at is left out: its labels and annotations would say that a release owns these objects.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "llm-worker-pool"
DEPLOY = ROOT / "deploy" / "llm-worker-pool.yaml"
NAMESPACE = "llm"
HEAD = """\
# The operator for one namespace, `llm`, with its rights and the CRD. Written by `make manifests` from the chart: change
# that one. Both images are yours to build: docs/kubernetes.md.
"""
PART_OF = "app.kubernetes.io/part-of"
HELMS_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
Object = dict[str, Any]


def rendered(helm: str, *arguments: str) -> list[Object]:
    """What the chart makes of these arguments of `helm template`, hooks of Helm among it.

    Raises:
        subprocess.CalledProcessError: Helm refused them; its words are on stderr.
    """
    command = [helm, "template", "llmpool", str(CHART), "--namespace", NAMESPACE, *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def without_helm(document: Object) -> Object:
    """The object without labels and annotations that only Helm looks at. The argument is changed."""
    for metadata in _all_metadata(document):
        for label in HELMS_LABELS:
            metadata.get("labels", {}).pop(label, None)
        own = {key: value for key, value in metadata.get("annotations", {}).items() if not key.startswith("helm.sh/")}
        metadata.pop("annotations", None)
        if own:
            metadata["annotations"] = own
    return document


def _all_metadata(document: Object) -> list[Object]:
    template = document.get("spec", {}).get("template", {})
    return [document["metadata"], *([template["metadata"]] if "metadata" in template else [])]


def manifest(helm: str) -> str:
    """The whole file."""
    namespace: Object = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {PART_OF: "llm-worker-pool", "pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    objects = [without_helm(document) for document in rendered(helm, "--set", "tests.enabled=false")]
    # Kinds come before what is of them, and a namespace before what is in it.
    objects.sort(key=lambda each: each["kind"] != "CustomResourceDefinition")
    return HEAD + yaml.safe_dump_all([namespace, *objects], sort_keys=False, width=1000, explicit_start=True)


def main() -> int:
    """Write the file; with --check only say whether it is as it would be written."""
    text = manifest(os.environ.get("HELM", "helm"))
    if "--check" in sys.argv[1:]:
        return int(not DEPLOY.is_file() or DEPLOY.read_text() != text)
    DEPLOY.parent.mkdir(exist_ok=True)
    DEPLOY.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

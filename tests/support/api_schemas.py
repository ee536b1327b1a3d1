"""An API server's own schemas as files that kubeconform reads: one for each kind, nothing unknown allowed."""

import json
import subprocess
from pathlib import Path
from typing import Any

# What the server's document calls text may be a number in YAML.
NUMBERS_TOO = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
}
# A schema of schemas refers to itself without end; Kubernetes' own check of a CRD is the server's.
ENDLESS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


def write_schemas(kubeconfig: Path, folder: Path) -> None:
    """Ask the server, and write ``deployment-apps-v1.json`` and its like into a new folder."""
    command = ["kubectl", "--kubeconfig", str(kubeconfig), "get", "--raw", "/openapi/v2"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    made = folder.with_suffix(".part")
    made.mkdir(parents=True, exist_ok=True)
    for definition in told["definitions"].values():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            group = [kind["group"].split(".")[0]] if kind["group"] else []
            name = "-".join([kind["kind"].lower(), *group, kind["version"]])
            (made / f"{name}.json").write_text(json.dumps(_whole(definition, told["definitions"])))
    made.rename(folder)


def _whole(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with what it refers to inside it, closed against unknown fields."""
    if isinstance(schema, list):
        return [_whole(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/definitions/")
        if name in NUMBERS_TOO:
            return {"type": ["string", "number"]}
        return {} if name == ENDLESS else _whole(definitions[name], definitions)
    made = {key: _whole(value, definitions) for key, value in schema.items() if not key.startswith("x-")}
    if isinstance(made.get("properties"), dict) and "additionalProperties" not in made:
        made["additionalProperties"] = False
    return made

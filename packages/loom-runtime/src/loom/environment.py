"""Development, test or production: what ``LOOM_ENV`` says, or what the surroundings look like when it says nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Literal

from .plugins.urls import LoomURL

__all__ = ["ENVIRONMENTS", "Environment", "detect_environment", "is_loopback"]

Environment = Literal["development", "test", "production"]

ENVIRONMENTS: tuple[Environment, ...] = ("development", "test", "production")

MARKERS: dict[str, str] = {
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
    "CONTAINER_APP_NAME": "Azure Container Apps",
    "WEBSITE_INSTANCE_ID": "Azure App Service",
    "WEBSITE_SITE_NAME": "Azure App Service",
    "FUNCTIONS_WORKER_RUNTIME": "Azure Functions",
    "AWS_EXECUTION_ENV": "AWS",
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda",
    "ECS_CONTAINER_METADATA_URI": "Amazon ECS",
    "ECS_CONTAINER_METADATA_URI_V4": "Amazon ECS",
    "K_SERVICE": "Google Cloud Run",
    "CLOUD_RUN_JOB": "Google Cloud Run",
    "GAE_ENV": "Google App Engine",
    "FLY_APP_NAME": "Fly.io",
    "DYNO": "Heroku",
    "RENDER_SERVICE_ID": "Render",
    "RAILWAY_ENVIRONMENT_ID": "Railway",
    "NOMAD_ALLOC_ID": "Nomad",
}
"""Variables that only a hosting platform sets, and its name."""

# In these the part after :// is a name or the start of a path, never a machine of the network.
_WITHOUT_NETWORK = frozenset({"memory", "sqlite", "file", "unix"})


def is_loopback(url: LoomURL) -> bool:
    """Whether the URL stays on this machine: no host at all, ``localhost``, 127.0.0.0/8 or ::1."""
    if url.scheme in _WITHOUT_NETWORK or not url.host:
        return True
    return all(_local(host) for host in url.host.split(","))


def detect_environment(
    declared: str | None, environ: Mapping[str, str], urls: Iterable[LoomURL]
) -> tuple[Environment, str]:
    """The environment, and the reason as a phrase to put after "because".

    ``declared`` wins. Unset means development only where it looks like one: the variables of a hosting platform, or a
    URL that leaves the machine, make it production, so that forgetting to set it errs on the safe side.
    """
    for name in ENVIRONMENTS:
        if declared == name:
            return name, f"it is set to {name}"
    for variable, platform in MARKERS.items():
        if environ.get(variable):
            return "production", f"LOOM_ENV is not set and {variable} shows that this runs on {platform}"
    for url in urls:
        if not is_loopback(url):
            return "production", f"LOOM_ENV is not set and {url} is not on this machine"
    return "development", "LOOM_ENV is not set, no hosting platform shows, and every URL stays on this machine"


def _local(host: str) -> bool:
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)

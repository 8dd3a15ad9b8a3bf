"""Addresses of engines that run elsewhere: read, checked, and told apart by whether they leave this machine."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from lmgraph.errors import ConfigError

PRIVATE_HOSTS_VARIABLE = "LMGRAPH_PRIVATE_HOSTS"
"""Hosts, separated by commas, that LMs with `clearance: private` may be bound to besides this machine. A variable and
no key of lmgraph.toml: that file comes with the program, and this is for the person who runs it to say."""

_PLACE = re.compile(r"(?:(?P<model>.*)@)?(?P<urls>https?://.*)")


def split_place(text: str) -> tuple[str | None, tuple[str, ...]]:
    """(model, URLs) of `MODEL@URL,URL`, of URLs alone, or of a model alone. Raises: ConfigError for a bad URL."""
    matched = _PLACE.fullmatch(text)
    if matched is None:
        return text or None, ()
    return matched["model"] or None, tuple(checked_url(url) for url in matched["urls"].split(","))


def checked_url(text: str) -> str:
    """``text`` as a base URL without a slash at its end. Raises: ConfigError."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"`{_shown(text)}` is no URL: {error}.", hint="expected http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ConfigError(f"`{_shown(text)}` is no URL of an engine.", hint="expected http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"The URL of {host} holds a user or a password.", hint="give a key through the environment instead"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"The URL of {host} has a query or a fragment.", hint="expected http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine as such. Names other than `localhost` are not looked up."""
    host = host_of(url)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_be_private(url: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an LM with `clearance: private` may be bound to ``url``."""
    listed = environment.get(PRIVATE_HOSTS_VARIABLE, "").split(",")
    return is_loopback(url) or host_of(url) in {host.strip().lower() for host in listed if host.strip()}


def check_clearance(lm: str, urls: Iterable[str], environment: Mapping[str, str] = os.environ) -> None:
    """Raises: ConfigError if an LM with `clearance: private` would send what it is given to a host that may not see
    it."""
    for url in urls:
        if not may_be_private(url, environment):
            raise ConfigError(
                f"LM `{lm}` has `clearance: private`, and {host_of(url)} is another machine.",
                hint=f"bind it to this machine (--lm {lm}=local), or list the host in {PRIVATE_HOSTS_VARIABLE}",
            )


def _shown(text: str) -> str:
    """``text`` without what may be a password."""
    return re.sub(r"//[^/@]*@", "//…@", text)

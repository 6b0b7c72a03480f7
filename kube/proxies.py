"""Which hosts are reached without the proxy: golang.org/x/net/http/httpproxy's rules."""

from ipaddress import ip_address, ip_network


def bypasses(address: str, no_proxy: str) -> bool:
    """Whether ``address`` (``host`` or ``host:port``) goes past the proxy.

    ``no_proxy``: ``*``, addresses, networks, names that cover those below them, ``.name`` for only
    those below; each may have a port. Loopback and ``localhost`` always go past it.
    """
    host, port = _split(address)
    ip = _ip(host)
    if host == "localhost" or (ip is not None and ip.is_loopback):
        return True
    for entry in map(str.strip, no_proxy.lower().split(",")):
        if entry == "*":
            return True
        if not entry:
            continue
        if ip is not None and "/" in entry:
            try:
                if ip in ip_network(entry, strict=False):
                    return True
            except ValueError:
                pass
            continue
        name, wanted_port = _split(entry)
        if wanted_port and wanted_port != port:
            continue
        if ip is not None:
            if _ip(name) == ip:
                return True
        elif host == name.lstrip("*") or host.endswith(f".{name.lstrip('*').lstrip('.')}"):
            return True
    return False


def _split(address: str) -> tuple[str, str]:
    """Host and port (empty when none is given); brackets of IPv6 are taken off."""
    address = address.lower()
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest.lstrip(":")
    if address.count(":") > 1:
        return address, ""
    host, _, port = address.partition(":")
    return host, port


def _ip(host: str):  # type: ignore[no-untyped-def]
    try:
        return ip_address(host)
    except ValueError:
        return None

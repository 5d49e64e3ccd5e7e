"""Makes every connection but loopback raise, in each Python started with this folder on PYTHONPATH, kernels too.

An audit hook sees the calls of every Python library, whatever name it imported ``socket`` under. It cannot see C or C++
code that opens sockets by itself; nothing in the course does.
"""

import ipaddress
import socket
import sys


def _stays_here(host) -> bool:
    """Say whether ``host`` is this machine; a plain address is judged without asking a name server."""
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _guard(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None  # Unix sockets have a path; None: connected before
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if not _stays_here(host):
        raise OSError(f"offline test: something asked the network for {host}; the course must work without one")


sys.addaudithook(_guard)

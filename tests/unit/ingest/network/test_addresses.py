"""Which addresses are refused, whatever name leads to them, and that no redirect leads elsewhere."""

import socket

import pytest

from k2.ingest.network.addresses import refusal
from k2.ingest.network.client import FAILURES, RedirectRefused, open_client


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses_are_always_allowed(address: str):
    assert refusal(address, private=False) == refusal(address, private=True) == ""


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "::1", "fd12::1", "::ffff:10.0.0.1"]
)
def test_private_addresses_need_to_be_allowed(address: str):
    assert "allowPrivateEndpoints" in refusal(address, private=False)
    assert refusal(address, private=True) == ""


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "169.254.170.2", "fe80::1%eth0", "fd00:ec2::254", "::ffff:169.254.169.254"]
)
def test_where_clouds_serve_credentials_is_never_allowed(address: str):
    for private in (False, True):
        assert "link-local" in refusal(address, private=private)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_client_for_public_addresses_refuses_this_machine_by_name_and_by_address(exchange, host: str):
    port = await exchange(plain=True)
    async with open_client(private=False) as http:
        for call in (http.get(f"http://{host}:{port}/x", {}), http.ws_connect(f"ws://{host}:{port}/ws")):
            with pytest.raises(FAILURES, match="does not allow private addresses"):
                await call
    async with open_client() as http:
        assert (await http.get(f"http://{host}:{port}/x", {})).status == 200


async def test_a_link_local_address_is_refused_before_anything_is_sent():
    async with open_client(private=True) as http:
        with pytest.raises(FAILURES, match="link-local"):
            await http.get("http://169.254.169.254/latest/meta-data/", {})


async def test_a_proxy_may_be_private_although_exchanges_may_not(proxy, exchange, authority, monkeypatch):
    through, port = await proxy(), await exchange()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{through.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with open_client(private=False) as http:
        assert (await http.get(f"https://exchange.test:{port}/x", {})).status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_and_what_it_leads_to_is_not_asked(redirecting, status: int):
    port, asked = await redirecting(status)
    async with open_client() as http:
        with pytest.raises(RedirectRefused, match=f"HTTP {status}: the server redirects elsewhere"):
            await http.get(f"http://127.0.0.1:{port}/x", {})
        with pytest.raises(FAILURES):
            await http.ws_connect(f"ws://127.0.0.1:{port}/ws")
    assert asked == ["/x", "/ws"]


def test_sockets_are_made_as_asked():
    from k2.ingest.network.addresses import SocketFactory

    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))
    with SocketFactory(private=True)(info) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)

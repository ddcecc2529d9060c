"""Which proxy leads to a URL: a table of settings, without any socket."""

import pytest

from k2.common.validation_errors import InvalidSpec
from k2.ingest.network.proxies import Proxies

ALL = {"http": "http://plain:1", "https": "http://secure:2", "all": "http://any:3"}


def chosen(url: str, **settings: str) -> str | None:
    return Proxies.of(settings).proxy(url)


@pytest.mark.parametrize(
    ("url", "settings", "proxy"),
    [
        ("http://exchange.com/x", ALL, "http://plain:1"),
        ("https://exchange.com/x", ALL, "http://secure:2"),
        ("wss://exchange.com/x", ALL, "http://secure:2"),
        ("ws://exchange.com/x", ALL, None),
        ("https://exchange.com", {"all": "http://any:3", "http": "http://plain:1"}, "http://any:3"),
        ("http://exchange.com", {"all": "http://any:3", "https": "http://secure:2"}, "http://any:3"),
        ("wss://exchange.com", {"http": "http://plain:1"}, None),
        ("wss://exchange.com", {"https": "proxy.local:3128"}, "http://proxy.local:3128"),
        ("wss://exchange.com", {"https": "https://user:word@proxy:1"}, "https://user:word@proxy:1"),
        ("wss://exchange.com", {"https": ""}, None),
        ("wss://localhost:9443", ALL, None),
        ("http://127.8.8.8:80", ALL, None),
        ("http://[::1]:80", ALL, None),
        ("https://exchange.com", {}, None),
    ],
)
def test_the_scheme_chooses_the_proxy(url, settings, proxy):
    assert chosen(url, **settings) == proxy


@pytest.mark.parametrize(
    ("no", "url", "direct"),
    [
        ("*", "wss://stream.binance.com:9443", True),
        ("other.com, *", "wss://stream.binance.com:9443", True),
        ("binance.com", "https://binance.com", True),
        ("binance.com", "wss://stream.binance.com:9443", True),
        (".binance.com", "wss://stream.binance.com:9443", True),
        (".binance.com", "https://binance.com", True),
        ("*.binance.com", "wss://stream.binance.com:9443", True),
        ("BINANCE.com", "wss://Stream.Binance.COM", True),
        ("binance.com", "wss://stream.binance.com.", True),
        ("binance.com", "https://notbinance.com", False),
        ("binance.com", "https://binance.com.evil.com", False),
        ("stream.binance.com:9443", "wss://stream.binance.com:9443", True),
        ("binance.com:9443", "wss://stream.binance.com:9443", True),
        ("stream.binance.com:9443", "wss://stream.binance.com", False),
        ("stream.binance.com:443", "wss://stream.binance.com", True),
        ("stream.binance.com:80", "http://stream.binance.com", True),
        ("10.0.0.0/8", "https://10.20.30.40:8443", True),
        ("10.0.0.0/8", "https://11.20.30.40", False),
        ("10.20.30.40/8", "https://10.1.1.1", True),
        ("10.0.0.0/8:8443", "https://10.20.30.40:8443", True),
        ("192.168.1.5", "http://192.168.1.5:8080", True),
        ("192.168.1.5", "http://192.168.1.50:8080", False),
        ("168.1.5", "http://192.168.1.5", False),
        ("10.0.0.0/8", "https://exchange.com", False),
        ("fd00::/8", "https://[fd12::1]:443", True),
        ("[fd12::1]:443", "https://[fd12::1]", True),
        ("[fd12::1]:80", "https://[fd12::1]", False),
        ("[fd00::]/8", "https://[fd12::1]", True),
        ("fd00::/8", "https://10.0.0.1", False),
        ("other.com exchange.com", "https://exchange.com", True),
        (" , ,", "https://exchange.com", False),
        (".", "https://exchange.com", False),
        ("not/a/network", "https://10.0.0.1", False),
    ],
)
def test_no_proxy_names_what_is_reached_directly(no, url, direct):
    assert (chosen(url, **ALL, no=no) is None) is direct


@pytest.mark.parametrize("url", ["socks5://proxy:1080", "ftp://proxy", "http://", "http://:3128", "http://proxy:99999"])
def test_a_proxy_that_cannot_be_used_is_refused_by_name(url):
    with pytest.raises(InvalidSpec, match=r"ALL_PROXY: .* must be a URL that begins with http:// or https://"):
        Proxies.of({"all": url})


def test_the_words_of_a_refusal_hide_a_password():
    with pytest.raises(InvalidSpec) as refusal:
        Proxies.of({"https": "socks5://user:secret@proxy:1080"})
    assert "secret" not in str(refusal.value)

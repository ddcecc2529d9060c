"""The way to the exchanges: HTTP and websocket client, proxies, certificates. Only these modules know the library."""

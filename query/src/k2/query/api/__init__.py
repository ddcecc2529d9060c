"""The HTTP API: query results as pages and streams, behind authentication, rate limits and query limits."""

"""A server of the Model Context Protocol for coding agents, which looks into an application and changes nothing."""

from twofold.mcp.looked_at import LookedAt
from twofold.mcp.server import agent_server

__all__ = ["LookedAt", "agent_server"]

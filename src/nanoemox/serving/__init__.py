"""The server: decisions, chat, six answers, over HTTP on this machine."""

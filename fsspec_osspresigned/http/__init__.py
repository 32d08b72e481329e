"""One HTTP exchange: a signed request goes out byte for byte, a reply comes back.

Begin with ``transport``; ``connection`` is the socket, ``body`` the bytes to send.
"""

"""One call to the store: sign, send, check the reply, retry, sign again.

Begin with ``client``. ``error_codes`` turns replies into errors. ``retry`` decides what
happens after a failure. ``express`` makes the first tries of many small requests.
"""

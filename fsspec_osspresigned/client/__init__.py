"""One call to the store: sign, send, check the reply, retry, sign again.

Begin with ``client``. ``error_codes`` turns replies into errors. ``retry`` decides what
happens after a failure.
"""

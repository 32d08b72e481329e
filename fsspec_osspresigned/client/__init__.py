"""One call to the store: sign, send, judge the reply, retry, sign again.

Begin with ``client``. ``error_codes`` makes errors of replies; ``retry`` decides what
follows a failure.
"""

"""One call to the store: sign the request, send it, check the reply, retry.

Begin with ``client``. ``operations`` has the calls of OSS. ``error_codes`` turns
replies into errors, ``causes`` explains the errors. ``retry`` decides whether a failed
call is sent again. ``congestion`` finds out how many requests at a time the link can
carry.
"""

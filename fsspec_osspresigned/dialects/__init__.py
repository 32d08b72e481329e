"""What stores other than OSS want.

Begin with ``s3``: checksums in the URLs and headers of stores that speak S3.
"""

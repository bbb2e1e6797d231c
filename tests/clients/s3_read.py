"""Writes an object to standard output, read by the S3 client that pyarrow carries.

Arguments: the endpoint's URL, the region, the key id, the secret, the bucket and key."""

import sys
from urllib.parse import urlsplit

from pyarrow import fs

url, region, access_key, secret_key, path = sys.argv[1:]
endpoint = urlsplit(url)
store = fs.S3FileSystem(access_key=access_key, secret_key=secret_key, region=region,
                        endpoint_override=endpoint.netloc, scheme=endpoint.scheme)
with store.open_input_file(path) as file:
    sys.stdout.buffer.write(file.read())
